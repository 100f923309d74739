// What this side answers to one request, in the shape that the vectors have.
import type { ReferenceDomain } from "../reference/types.js";
import { walkReference, type ReferenceWalk } from "../reference/walk.js";

export interface Request {
  readonly rid: number;
  readonly pasid: number | undefined;
  readonly iova: bigint;
  /** PERM_*, as the unit's requests ask it. */
  readonly need: number;
  readonly write: boolean;
}

export interface Answer {
  readonly pa?: bigint;
  readonly size?: bigint;
  readonly bypass?: boolean;
  readonly ipa?: bigint;
  readonly s1Size?: bigint;
  readonly fault?: string;
  readonly reported?: boolean;
  readonly stage?: number;
  readonly class?: string;
  /** SMMUv3: words of the event that are compared, null where one is not. */
  readonly event?: readonly (bigint | null)[];
  /** The walk that was made, for accessed and dirty bits. */
  readonly domain?: ReferenceDomain;
}

export const LARGEST = 1n << 64n;

export function translated(walk: ReferenceWalk): Answer | null {
  const { found } = walk;
  if (walk.reason !== "none" || !found) return null;
  return { pa: found.hpa, size: 1n << BigInt(found.leafLg2), ipa: found.oa, s1Size: 1n << BigInt(found.ownLg2) };
}

export function walkRequest(domain: ReferenceDomain, request: Request): ReferenceWalk {
  return walkReference(domain, request.iova, request.need);
}

/** A bit field of a configuration word, first..last. */
export function bits(word: bigint, first: number, last: number): number {
  return Number(BigInt.asUintN(last - first + 1, word >> BigInt(first)));
}

/** The same in place, for addresses. */
export function addressBits(word: bigint, first: number, last: number): bigint {
  return (BigInt.asUintN(last + 1, word) >> BigInt(first)) << BigInt(first);
}
