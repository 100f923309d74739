// The host of a scenario. Imports the host and its own folder.
import { createHost, type HostOptions, type SimulatedHost } from "../create-host.js";
import type { DeviceOptions } from "../host-devices.js";
import type { IommuOptions } from "../iommu/model.js";
import type { DeviceSpec, HostSpec, IommuSpec, NumberText } from "./scenario.js";
import { ScenarioError } from "./scenario-error.js";

/** Without the keys that have no value: they are not the same as absent ones. */
function given(options: object): object {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

const small = (value: NumberText | undefined): number | undefined => (value === undefined ? undefined : Number(value));

function iommuOptions({ granule, addressWidth, outputWidth, pasidBits, reserved, ...rest }: IommuSpec): IommuOptions {
  return given({
    ...rest, granule: small(granule), addressWidth: small(addressWidth), outputWidth: small(outputWidth), pasidBits: small(pasidBits),
    reserved: reserved?.map(({ first, last, why }) => ({ first: BigInt(first), last: BigInt(last), why })),
  }) as IommuOptions;
}

function deviceOptions({ rid, group, ...rest }: DeviceSpec): DeviceOptions {
  return given({ ...rest, rid: small(rid), group: small(group) }) as DeviceOptions;
}

function numbers(values: Readonly<Record<string, NumberText>> | undefined): object | undefined {
  return values && Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));
}

export function hostOptions(spec: HostSpec): HostOptions {
  const { memory, iommus, devices, lockLimit, strictAttach, accounting, faultQueue, ports } = spec;
  return given({
    memory: memory && given({ ram: small(memory.ram), arena: small(memory.arena), shared: memory.shared }),
    iommus: iommus?.map(iommuOptions), devices: devices?.map(deviceOptions),
    lockLimit: lockLimit === undefined ? undefined : BigInt(lockLimit), strictAttach, accounting,
    slots: small(spec.slots), routes: small(spec.routes), domains: small(spec.domains),
    ports: numbers(ports),
    faultQueue: numbers(faultQueue),
  }) as HostOptions;
}

/** Throws ScenarioError when no such host can be made. */
export async function makeHost(spec: HostSpec = {}): Promise<SimulatedHost> {
  try {
    return await createHost(hostOptions(spec));
  } catch (cause) {
    throw new ScenarioError("$.host", cause instanceof Error ? cause.message : String(cause), undefined, { cause });
  }
}
