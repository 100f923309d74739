// One small engine, a domain with one route, and shorthands over a port. Imports the engine only. Ranges are first..last.
import { Engine, type DomainOptions, type EngineOptions } from "../../src/engine/engine.js";
import * as L from "../../src/engine/layout.js";
import type { Port } from "../../src/engine/port.js";

export const VTD48: DomainOptions = { format: L.FORMAT_VTD_SECOND, levels: 4, width: 48, outputWidth: 52 };
export const AMD64: DomainOptions = { format: L.FORMAT_AMD_V1, levels: 6, width: 64, outputWidth: 52 };
export const R = L.PERM_R;
export const W = L.PERM_W;
export const RW = R | W;

export interface Fixture {
  engine: Engine;
  port: Port;
  domain: number;
  route: number;
}

export async function fixture(domainOptions: DomainOptions = VTD48, options: EngineOptions = {}): Promise<Fixture> {
  const engine = await Engine.create({
    memory: { ram: 1 << 20, arena: 8 << 20 }, domains: 16, slots: 16, routes: 64,
    ports: { count: 2, iotlbSets: 64, lanes: 256, faults: 64 }, ...options,
  });
  const domain = engine.createDomain(domainOptions);
  const route = engine.route(0x20);
  engine.attachRoute(route, domain);
  return { engine, port: engine.openPort(), domain, route };
}

export interface Answer {
  hpa?: bigint;
  runLg2?: number;
  fault?: string;
}

export function decode(result: bigint): Answer {
  if (result >> L.RESULT_FAULT_BIT) return { fault: L.REASON_NAMES[Number(result & 0xffn)] ?? "unknown" };
  return { hpa: BigInt.asUintN(56, result), runLg2: Number((result >> L.RESULT_RUN_SHIFT) & 0x3fn) };
}

/** Translates in one batch. */
export function ask(port: Port, route: number, iovas: readonly bigint[], need: number): Answer[] {
  return port.batch(() => {
    iovas.forEach((iova, lane) => {
      port.requests.set([Number(iova & 0xffffffffn), Number(iova >> 32n), route, need], lane * 4);
    });
    port.translate(iovas.length);
    port.takeFaults();
    return iovas.map((_, lane) => decode(BigInt(port.results[lane * 2] ?? 0) | (BigInt(port.results[lane * 2 + 1] ?? 0) << 32n)));
  });
}

/** The same by the scalar call. */
export function askOne(port: Port, route: number, iova: bigint, need: number): Answer {
  port.translateHalves(Number(iova & 0xffffffffn), Number(iova >> 32n), route, need);
  port.takeFaults();
  return decode(port.result);
}

/** Bytes of the ranges of dirty leaves. */
export function dirtyBytes(engine: Engine, domain: number, first: bigint, last: bigint, clear: boolean): bigint {
  return engine.collectDirty(domain, first, last, clear).reduce((sum, range) => sum + range.last - range.first + 1n, 0n);
}
