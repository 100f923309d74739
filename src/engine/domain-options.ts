// What a domain is made from, and the flags that this makes of its record. Imports layout and errors.
import { EngineError } from "./errors.js";
import * as L from "./layout.js";

export interface DomainOptions {
  /** L.FORMAT_* */
  format: number;
  levels: number;
  /** Bits of an input address. */
  width: number;
  /**
   * What the bits above the width must be: all zero (default), equal to the sign bit, or all one (the half of Arm's TTBR1);
   * "-tbi": the same with the top byte ignored.
   */
  rule?: keyof typeof RULES;
  /** Bits of an output address, at most 52. An entry with a larger address is refused. */
  outputWidth: number;
  /** Bits that must be clear in pointers to tables and in leaves, beyond what the format and outputWidth say. Default 0. */
  reservedTable?: bigint;
  reservedLeaf?: bigint;
  /** Accessed bits: not looked at (default), set by the walk, or a leaf without it refuses. */
  accessed?: "ignore" | "set" | "fault";
  /** Dirty bits: not looked at (default), or set by writes. */
  dirty?: "ignore" | "set";
  /** A device may ask for pages that the table lacks. Default false. */
  pageRequests?: boolean;
  /** L.OPTION_* of the format. Default 0. */
  options?: number;
  /** The guest owns the table: address of its start table, a multiple of 64; hpa, or what `stage2` translates. */
  guestRoot?: bigint;
  /** The domain, without one of its own, that translates a guest's table addresses and output. */
  stage2?: number;
  /** The guest's domain that serves iovas with bit 55 set. Arm stage 1 only; granule and options are each half's own. */
  upper?: number;
}

const RULES = {
  zero: L.RULE_ZERO, sign: L.RULE_SIGN, ones: L.RULE_ONES,
  "zero-tbi": L.RULE_ZERO | L.RULE_TBI, "sign-tbi": L.RULE_SIGN | L.RULE_TBI, "ones-tbi": L.RULE_ONES | L.RULE_TBI,
} as const;
const ACCESSED = { ignore: 0, set: L.DOMAIN_SET_ACCESSED, fault: L.DOMAIN_ACCESS_FAULT } as const;
const DIRTY = { ignore: 0, set: L.DOMAIN_SET_DIRTY } as const;
const MARKS = L.DOMAIN_SET_ACCESSED | L.DOMAIN_ACCESS_FAULT | L.DOMAIN_SET_DIRTY;
/** Formats with a second root for the upper half. */
const HALVES: ReadonlySet<number> = new Set([L.FORMAT_ARM_S1_4K, L.FORMAT_ARM_S1_16K, L.FORMAT_ARM_S1_64K]);

/** A word of a domain's record; 0 for an index that is none. */
export type ReadWord = (domain: number, offset: number) => number;

/** L.RULE_* of its iovas. */
export function ruleOf({ rule = "zero" }: DomainOptions): number {
  return RULES[rule];
}

/** DOMAIN_* flags of such a domain; `word` reads those that it names. Throws EngineError BAD_ARGUMENT. */
export function domainFlags(
  { format, accessed = "ignore", dirty = "ignore", options = 0, pageRequests = false, guestRoot, stage2, upper }: DomainOptions, word: ReadWord,
): number {
  const bad = (why: string, field: string, value: unknown): never => {
    throw new EngineError("BAD_ARGUMENT", why, field, value);
  };
  if (guestRoot !== undefined && (guestRoot & 63n || guestRoot < 0n || guestRoot >> 56n)) {
    bad("must be a multiple of 64 below 2^56", "guestRoot", guestRoot);
  }
  const marks = ACCESSED[accessed] | DIRTY[dirty];
  if ((options & ~L.OPTIONS) !== 0) bad("has bits that are no option", "options", options);
  if (stage2 !== undefined) {
    if (guestRoot === undefined) bad("needs a guest's table (guestRoot) above it", "stage2", stage2);
    if (word(stage2, L.DOMAIN_STATE) === 0) bad("is no domain", "stage2", stage2);
    if (word(stage2, L.DOMAIN_FLAGS) & (L.DOMAIN_NESTED | L.DOMAIN_HALVES)) bad("has two stages or halves itself", "stage2", stage2);
  }
  if (upper !== undefined) {
    if (guestRoot === undefined) bad("needs a guest's table (guestRoot) beside it", "upper", upper);
    if (word(upper, L.DOMAIN_STATE) === 0) bad("is no domain", "upper", upper);
    if (!HALVES.has(format) || !HALVES.has(word(upper, L.DOMAIN_FORMAT))) bad("and the domain must be Arm stage 1", "upper", upper);
    if (((word(upper, L.DOMAIN_FLAGS) ^ marks) & MARKS) !== 0) bad("treats accessed and dirty bits otherwise", "upper", upper);
    if (!(word(upper, L.DOMAIN_FLAGS) & L.DOMAIN_GUEST)) bad("is no guest's table", "upper", upper);
    if (word(upper, L.DOMAIN_FLAGS) & L.DOMAIN_HALVES) bad("has halves itself", "upper", upper);
  }
  return (guestRoot === undefined ? 0 : L.DOMAIN_GUEST) | marks | options | (pageRequests ? L.DOMAIN_PAGE_REQUESTS : 0)
    | (stage2 === undefined ? 0 : L.DOMAIN_NESTED) | (upper === undefined ? 0 : L.DOMAIN_HALVES);
}
