// The rule of input addresses: what the bits above the width must be, and which bits a table decodes.
import { architectureOf } from "./formats.js";
import type { ReferenceDomain } from "./types.js";

const TBI_BITS = 56;
/** Bit 55 chooses between the two halves of an Arm address space, ignored top byte or not. */
const HALF_BIT = 55n;

export function inputWidth(domain: ReferenceDomain): number {
  return domain.width ?? architectureOf(domain.format).inputBits(domain.levels);
}

/** The table that serves an address. */
export function halfOf(domain: ReferenceDomain, iova: bigint): ReferenceDomain {
  return domain.upper && ((iova >> HALF_BIT) & 1n) === 1n ? domain.upper : domain;
}

/** The bits of an address that the tables decode; null if the ones above break the rule. */
export function decodedAddress(domain: ReferenceDomain, iova: bigint): bigint | null {
  const [rule, tbi] = (domain.rule ?? "zero").split("-");
  const width = inputWidth(domain);
  const compared = tbi ? TBI_BITS : 64;
  const within = BigInt.asUintN(width, iova);
  const whole = rule === "sign" ? BigInt.asIntN(width, iova) : rule === "ones" ? within - (1n << BigInt(width)) : within;
  return BigInt.asUintN(compared, whole) === BigInt.asUintN(compared, iova) ? within : null;
}

/** The address that obeys the rule and whose low bits are those that a tag of the IOTLB keeps: 57, or 56 below an ignored byte. */
export function addressOfTag(domain: ReferenceDomain, low: bigint): bigint {
  const [rule, tbi] = (domain.rule ?? "zero").split("-");
  return rule === "zero" ? low : BigInt.asUintN(64, BigInt.asIntN(tbi ? TBI_BITS : TBI_BITS + 1, low));
}
