// Makes a simulated host: the engine, its IOMMUs, its devices, the uAPI over them, and the devices' DMA views.
// Imports every layer but trace and cli.
import { Engine, type EngineOptions } from "./engine/engine.js";
import { EngineError, integerIn } from "./engine/errors.js";
import type { Port } from "./engine/port.js";
import { type DeviceOptions, deviceSpecs } from "./host-devices.js";
import { HostDevice } from "./host-device.js";
import { Iommu } from "./iommu/iommu.js";
import { modelOf, type IommuOptions } from "./iommu/model.js";
import { Host } from "./uapi/host.js";

/** RAM of an owned memory begins here; not at its memory offset, so that the two are never mixed up. */
const RAM_HPA = 0x100000000n;

/** A device asks for at most 32 pages at once: a queue has room for them. */
const LEAST_DEPTH = 32;

/** A range of host-physical addresses whose bytes are in an adopted memory; all multiples of 4096. */
export interface RamOptions {
  hpa: bigint;
  /** Memory offset of the first byte. */
  offset: number;
  size: bigint;
}

export interface HostOptions extends EngineOptions {
  /** Default: one VT-d, "iommu0". */
  iommus?: readonly IommuOptions[];
  /** Default: "dev1" at 00:04.0. */
  devices?: readonly DeviceOptions[];
  /** RAM in an adopted memory. An owned memory's RAM is one range from 4 GiB on. */
  ram?: readonly RamOptions[];
  /** Bytes that the process may lock (RLIMIT_MEMLOCK). Default: no limit. */
  lockLimit?: bigint;
  /** The RFC's rule that an ioasid takes no command before its first attach (ENODEV). Default false. */
  strictAttach?: boolean;
  /**
   * What charges a page that several maps cover only once: "ioasid" (default), the RFC's rule, each ioasid for itself; "fd",
   * iommufd's rule, all ioasids of an fd together.
   */
  accounting?: "ioasid" | "fd";
  faultQueue?: EngineOptions["faultQueue"] & {
    /** Records that the fault queue of an ioasid fd holds, 32..2^20. Default 1024. */
    depth?: number;
  };
}

export class SimulatedHost extends Host {
  readonly engine: Engine;
  readonly iommus: ReadonlyMap<string, Iommu>;
  #port: Port | undefined;

  /** @internal createHost() makes hosts. */
  constructor(engine: Engine, parts: ConstructorParameters<typeof Host>[0]) {
    super(parts);
    this.engine = engine;
    this.iommus = parts.iommus;
  }

  /** The port that this thread's views share; opened at the first view. */
  get port(): Port {
    return (this.#port ??= this.engine.openPort());
  }

  /** Throws EngineError BAD_ARGUMENT when there is no such device. */
  device(name: string): HostDevice {
    const device = this.devices().find((each) => each.name === name);
    if (device) return new HostDevice(this, device);
    const names = this.devices().map((each) => each.name).join(", ");
    throw new EngineError("BAD_ARGUMENT", `no device "${String(name)}"; there are ${names}`, "name", name);
  }
}

function makeIommus(engine: Engine, options: readonly IommuOptions[]): Map<string, Iommu> {
  const iommus = new Map<string, Iommu>();
  for (const [index, each] of options.entries()) {
    const name = each.name ?? `iommu${index}`;
    if (iommus.has(name)) throw new EngineError("BAD_OPTION", `two IOMMUs are called "${name}"`, "iommus.name", name);
    iommus.set(name, new Iommu(engine, name, modelOf(each)));
  }
  return iommus;
}

function makeRam(engine: Engine, options: HostOptions): RamOptions[] {
  const { offset, length } = engine.ram;
  const owned = length > 0 ? [{ hpa: RAM_HPA, offset, size: BigInt(length) }] : [];
  if (options.ram && !(options.memory && "adopt" in options.memory)) {
    throw new EngineError("BAD_OPTION", "belongs to an adopted memory; an owned one has `memory.ram`", "ram", options.ram);
  }
  const ram = [...owned, ...(options.ram ?? [])];
  for (const each of ram) {
    if (typeof each.hpa !== "bigint" || typeof each.size !== "bigint" || each.size <= 0n) {
      throw new EngineError("BAD_OPTION", "needs hpa and size as bigint, size above 0", "ram", each);
    }
    engine.addSlot(each.hpa, each.hpa + each.size - 1n, "memory", each.offset);
  }
  return ram;
}

/**
 * Makes a host: memory, IOMMUs, devices, one process. Everything has a default.
 * Throws EngineError BAD_OPTION (the option is `field`), NO_ARENA, SLOT_RANGE or SLOT_OVERLAP.
 */
export async function createHost(options: HostOptions = {}): Promise<SimulatedHost> {
  const { iommus = [{}], devices = [{ name: "dev1", rid: 0x20 }], lockLimit = (1n << 64n) - 1n, strictAttach = false } = options;
  const { accounting = "ioasid" } = options;
  if (iommus.length === 0) throw new EngineError("BAD_OPTION", "a host has at least one IOMMU", "iommus", iommus);
  if (typeof lockLimit !== "bigint" || lockLimit < 0n) throw new EngineError("BAD_OPTION", "must be a bigint >= 0", "lockLimit", lockLimit);
  if (typeof strictAttach !== "boolean") throw new EngineError("BAD_OPTION", "must be a boolean", "strictAttach", strictAttach);
  if (accounting !== "ioasid" && accounting !== "fd") throw new EngineError("BAD_OPTION", `must be "ioasid" or "fd"`, "accounting", accounting);
  const depth = integerIn("faultQueue.depth", options.faultQueue?.depth ?? 1024, LEAST_DEPTH, 1 << 20);
  iommus.forEach(modelOf);
  const engine = await Engine.create(options);
  const made = makeIommus(engine, iommus);
  const ram = makeRam(engine, options);
  const faults = {
    queue: engine.reports, stalls: engine.stalls, depth, inSection: () => engine.inSection, shared: engine.shared,
  };
  return new SimulatedHost(engine, { engine, iommus: made, devices: deviceSpecs(devices, made), ram, lockLimit, strictAttach, accounting, faults });
}
