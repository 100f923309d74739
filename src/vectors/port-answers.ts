// The same queries through a port: scalar calls and batches, each compared with what the exact walker said. Imports the engine
// and its own folder. Addresses go in two words; an answer that is as it should be costs no bigint.
import type { Engine } from "../engine/engine.js";
import * as L from "../engine/layout.js";
import type { Port, RawFault } from "../engine/port.js";
import type { Answer } from "./answer.js";
import type { Query } from "./vectors.js";

export interface Asked {
  query: Query;
  /** Place in its case. */
  index: number;
  answer: Answer;
  iovaLow: number;
  iovaHigh: number;
  route: number;
  domain: number;
  /** The result word, in two halves, that the exact walk calls for. */
  low: number;
  high: number;
}

/** Called with what a port said differently. */
export type Disagreed = (asked: Asked, field: string, expected: string, got: string) => void;

const RUN_SHIFT = Number(L.RESULT_RUN_SHIFT) - 32;
const IDENTITY = (1 << (Number(L.RESULT_IDENTITY_BIT) - 32)) | (63 << RUN_SHIFT);
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export function ask(query: Query, index: number, answer: Answer): Asked {
  const { domain, route, stream } = answer.subject;
  const { walk } = answer;
  const iovaLow = Number(query.iova & 0xffffffffn);
  const iovaHigh = Number(query.iova >> 32n);
  let low = 0;
  let high = 0x80000000;
  if (stream.kind === "identity") {
    low = iovaLow;
    high = (IDENTITY | (iovaHigh & 0xffffff)) >>> 0;
  } else if (walk?.reason === "none") {
    low = Number(walk.hpa & 0xffffffffn);
    high = (Number(walk.hpa >> 32n) | (walk.leafLg2 << RUN_SHIFT)) >>> 0;
  } else {
    const reason = walk ? walk.reason : "blocked";
    low = L.REASON_NAMES.indexOf(reason) | ((walk?.level ?? 0) << Number(L.RESULT_LEVEL_SHIFT));
  }
  return { query, index, answer, iovaLow, iovaHigh, route, domain, low, high };
}

function word(low: number, high: number): string {
  const result = (BigInt(high) << 32n) | BigInt(low);
  if (result >> L.RESULT_FAULT_BIT) return `refused: ${L.REASON_NAMES[low & 0xff] ?? low & 0xff}, level ${(low >> 8) & 0xff}`;
  const identity = (result >> L.RESULT_IDENTITY_BIT) & 1n;
  return identity ? "identity" : `${hex(BigInt.asUintN(56, result))}, 2^${(result >> L.RESULT_RUN_SHIFT) & 0x3fn} bytes`;
}

/** Compares a fault record with the exact walk: every field of it. */
function compareFault(asked: Asked, fault: RawFault | undefined, disagreed: Disagreed): void {
  if (!fault) return disagreed(asked, "fault record", "one", "none");
  const { query, answer: { walk, need } } = asked;
  const fields: [string, unknown, unknown][] = [
    ["reason", walk?.reason ?? "blocked", fault.reason], ["rid", query.rid, fault.rid],
    ["pasid", query.pasid ?? L.NO_PASID, fault.pasid], ["iova", query.iova, fault.iova], ["access", need, fault.access],
    ["stage", walk?.stage ?? 0, fault.stage], ["class", walk?.class ?? "none", fault.class], ["level", walk?.level ?? 0, fault.level],
    ["ipa", walk?.ipa ?? 0n, fault.ipa], ["route", asked.route, fault.route],
  ];
  for (const [field, expected, got] of fields) if (expected !== got) disagreed(asked, `fault record's ${field}`, String(expected), String(got));
}

function compare(asked: Asked, low: number, high: number, fault: RawFault | undefined, disagreed: Disagreed): void {
  if (low !== asked.low || high !== asked.high) disagreed(asked, "result", word(asked.low, asked.high), word(low, high));
  else if (high >>> 31) compareFault(asked, fault, disagreed);
  else if (fault) disagreed(asked, "fault record", "none", fault.reason);
}

/** The exact walker once more: what others have cached, and marked in the tables, changes none of its answers. */
export function askExact(engine: Engine, all: readonly Asked[], disagreed: Disagreed): void {
  for (const asked of all) {
    const { walk, need } = asked.answer;
    if (!walk) continue;
    const again = engine.walk(asked.domain, asked.query.iova, need);
    // Address and size are only there of a translation that exists.
    const fields = walk.reason === "none" ? (["reason", "hpa", "leafLg2", "perm"] as const) : (["reason", "perm", "stage", "class", "level", "ipa"] as const);
    for (const field of fields) {
      if (again[field] !== walk[field]) disagreed(asked, field, String(walk[field]), String(again[field]));
    }
  }
}

/** Every query by the scalar call; `cold`: with nothing cached of its domain. */
export function askScalar(engine: Engine, port: Port, all: readonly Asked[], cold: boolean, disagreed: Disagreed): void {
  for (const asked of all) {
    if (cold && asked.domain >= 0) engine.flushDomain(asked.domain);
    const translated = port.translateHalves(asked.iovaLow, asked.iovaHigh, asked.route, asked.answer.need);
    const { result } = port;
    const fault = translated ? undefined : port.takeFaults()[0];
    compare(asked, Number(result & 0xffffffffn), Number(result >> 32n), fault, disagreed);
  }
}

/** All queries in batches as large as the port takes; cold when nothing of their domains is cached before. */
export function askBatch(port: Port, all: readonly Asked[], disagreed: Disagreed): void {
  for (let first = 0; first < all.length; first += port.capacity) {
    const part = all.slice(first, first + port.capacity);
    port.batch(() => {
      const { requests, results } = port;
      part.forEach(({ iovaLow, iovaHigh, route, answer }, lane) => {
        requests[lane * 4] = iovaLow;
        requests[lane * 4 + 1] = iovaHigh;
        requests[lane * 4 + 2] = route;
        requests[lane * 4 + 3] = answer.need;
      });
      port.translate(part.length);
      const faults = new Map(port.takeFaults().map((fault) => [fault.lane, fault]));
      part.forEach((asked, lane) => compare(asked, results[lane * 2] ?? 0, results[lane * 2 + 1] ?? 0, faults.get(lane), disagreed));
    });
  }
}

/** What is cached of their domains is used no more. */
export function forget(engine: Engine, all: readonly Asked[]): void {
  for (const domain of new Set(all.map((asked) => asked.domain))) if (domain >= 0) engine.flushDomain(domain);
}
