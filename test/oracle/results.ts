// The oracle of answers: what a request must be answered, worked out with the reference walker from routes and tables.
// May import the layout constants and the other oracles.
import {
  ENGINE_ROUTE_MASK, ENGINE_ROUTES, PERM_ANY_W, PERM_MASK, REASON_BAD_REQUEST, REASON_BLOCKED, REASON_NAMES, REASON_NO_ROUTE,
  RESULT_FAULT_BIT, RESULT_IDENTITY_BIT, RESULT_LEVEL_SHIFT, RESULT_RUN_SHIFT, ROUTE_BLOCKED, ROUTE_BYTES, ROUTE_DOMAIN,
  ROUTE_IDENTITY, ROUTE_KIND, ROUTE_NONE,
} from "../../src/engine/layout.js";
import { header, hex, OracleError, tableOfRid, type EngineView, type LiveDomain } from "./engine-state.js";
import { readU32 } from "./memory-words.js";
import { leafIsDirty } from "./reference/marks.js";
import { walkReference } from "./reference/walk.js";

/** `iova` is 0..2^64 - 1; `need` is PERM_*, 0 for the address alone. */
export interface AskedTranslation {
  readonly iova: bigint;
  readonly route: number;
  readonly need: number;
}

const HPA_BITS = 56;

function isFault(result: bigint): boolean {
  return (result >> RESULT_FAULT_BIT) === 1n;
}

/** Why the refusal is not the one that is due, or null. The level is compared where an entry ended the walk. */
function checkRefusal(result: bigint, reason: number, level?: number): string | null {
  if (!isFault(result)) return `must be refused for reason ${reason}`;
  const got = Number(result & 0xffn);
  if (got !== reason) return `is refused for reason ${got}, must be for ${reason}`;
  const gotLevel = Number((result >> RESULT_LEVEL_SHIFT) & 0xffn);
  return level === undefined || gotLevel === level ? null : `is refused at level ${gotLevel}, must be at ${level}`;
}

function checkTranslated(domain: LiveDomain, asked: AskedTranslation, result: bigint): string | null {
  const { reason, level, found } = walkReference(domain.table, asked.iova, asked.need);
  if (reason !== "none" || !found) return checkRefusal(result, REASON_NAMES.indexOf(reason), level);
  if (isFault(result) || (result >> RESULT_IDENTITY_BIT) !== 0n) return `must be translated to ${hex(found.hpa)}`;
  if (BigInt.asUintN(HPA_BITS, result) !== found.hpa) return `must lead to ${hex(found.hpa)}`;
  const run = Number(result >> RESULT_RUN_SHIFT);
  if (run < 12 || run > found.leafLg2) return `has a run of 2^${run} bytes in a leaf of 2^${found.leafLg2}`;
  const wrote = domain.tracksDirty && (asked.need & PERM_ANY_W) !== 0;
  return wrote && !leafIsDirty(domain.table, asked.iova) ? "was granted a write that left the leaf clean" : null;
}

/** What a guest's PASID table says is a guest's memory; but it never bypasses all tables. */
function checkUnpublished(result: bigint): string | null {
  return isFault(result) || (result >> RESULT_IDENTITY_BIT) === 0n ? null : "must not be the identity";
}

function checkAnswer(
  engine: EngineView, domains: ReadonlyMap<number, LiveDomain>, asked: AskedTranslation, result: bigint, guests: boolean,
): string | null {
  if ((asked.need & ~Number(PERM_MASK)) !== 0) return checkRefusal(result, REASON_BAD_REQUEST);
  if (asked.route === ROUTE_NONE || asked.route > header(engine, ENGINE_ROUTE_MASK)) return checkRefusal(result, REASON_NO_ROUTE);
  const record = header(engine, ENGINE_ROUTES) + asked.route * ROUTE_BYTES;
  const kind = readU32(engine.memory, record + ROUTE_KIND);
  if (kind === ROUTE_BLOCKED) return tableOfRid(engine, asked.route) !== 0 ? checkUnpublished(result) : checkRefusal(result, REASON_BLOCKED);
  if (kind === ROUTE_IDENTITY) {
    const isIdentity = (result >> RESULT_IDENTITY_BIT) === 1n && BigInt.asUintN(HPA_BITS, result ^ asked.iova) === 0n;
    return isIdentity ? null : "must be the identity";
  }
  const domain = domains.get(readU32(engine.memory, record + ROUTE_DOMAIN));
  if (!domain) return "used a route to a domain that is not live";
  return domain.guest && !guests ? null : checkTranslated(domain, asked, result);
}

/**
 * Asserts that `result` answers the request as routes and tables say now. Requests to tables that a guest owns are judged
 * with "guests-too" alone, which is right while nothing changes their memory. Throws an OracleError. `domains` are the live ones
 * by index.
 */
export function expectAnswer(
  engine: EngineView, domains: ReadonlyMap<number, LiveDomain>, asked: AskedTranslation, result: bigint, guests?: "guests-too",
): void {
  const why = checkAnswer(engine, domains, asked, result, guests !== undefined);
  if (why === null) return;
  throw new OracleError(`iova ${hex(asked.iova)} by route ${asked.route} for ${asked.need}: answer ${hex(result)} ${why}`);
}
