// SMMUv3 context descriptors. Arm SMMUv3 architecture specification (IHI 0070), 5.3 (level 1 descriptor), 5.4 (fields and ILLEGAL
// values), 3.3.2 (tables by substream). ASID, memory attributes, A, R, S, PAN and execution are not looked at.
//   level 1  L2Ptr 55..12 | V 0
//   word 0   HA 43 | HD 42 | AA64 41 | TBI1 39 | TBI0 38 | AFFD 35 | IPS 34..32 | V 31 | EPD1 30 | TG1 23..22 | T1SZ 21..16 | ENDI 15 |
//            EPD0 14 | TG0 7..6 | T0SZ 5..0
//   word 1   TTB0 51..4 | HAD0 1           word 2   TTB1 51..4 | HAD1 1
// Imports layout, domain, fault, memory, entry.
import {
  DOMAIN_ACCESS_FAULT, DOMAIN_BYTES, DOMAIN_GUEST, DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, DOMAIN_STATE, DOMAIN_VACANT, FORMAT_ARM_S1_16K,
  FORMAT_ARM_S1_4K, FORMAT_ARM_S1_64K, OPTION_IGNORE_TABLE_PERMISSIONS, PASID_SET_ACCESSED, PASID_SET_DIRTY, PASID_TABLE_FLAGS,
  PASID_TABLE_LAYOUT, PASID_TABLE_OUTPUT_LG2, PASID_TABLE_ROOT, RULE_ONES, RULE_TBI, RULE_ZERO,
} from "../layout";
import { describe } from "../domain";
import { REASON_PASID_INVALID, REASON_PASID_NOT_PRESENT } from "../fault";
import { lowBits } from "../format/format";
import { NOWHERE } from "../memory";
import { ENTRY_REFUSED, ENTRY_STAGE1, fetch, joinHalves, nest, refuseEntry } from "./entry";

const L1_VALID: u64 = 1;
const L2_POINTER: u64 = 0x00fffffffffff000;
const VALID: u64 = 0x80000000;
const AARCH64: u64 = 1 << 41;
const HD: u64 = 1 << 42;
const HA: u64 = 1 << 43;
const BIG_ENDIAN: u64 = 1 << 15;
const AFFD: u64 = 1 << 35;
const TTB: u64 = 0x000ffffffffffff0;
const HAD: u64 = 2;
const CD_LG2: u64 = 6;
/** T0SZ and T1SZ of tables without extensions. */
const SMALLEST_SIZE: u32 = 16;
const LARGEST_SIZE: u32 = 39;

/** Substream bits that a leaf of S1Fmt 1 and 2 decodes. */
function leafLg2(layout: u32): u32 { return layout == 1 ? 6 : 10; }

/** Memory offset of a descriptor; NOWHERE if it is refused. */
function descriptorAt(engine: usize, port: usize, table: usize, pasid: u32): usize {
  const root = load<u64>(table, PASID_TABLE_ROOT);
  const layout = load<u32>(table, PASID_TABLE_LAYOUT);
  if (!layout) return fetch(engine, port, table, root + (<u64>pasid << CD_LG2), 0);
  const leaf = leafLg2(layout);
  const at = fetch(engine, port, table, root + (<u64>(pasid >> leaf) << 3), 1);
  if (at == NOWHERE) return NOWHERE;
  const pointer = atomic.load<u64>(at);
  if (!(pointer & L1_VALID)) {
    refuseEntry(port, REASON_PASID_NOT_PRESENT, 1, pointer);
    return NOWHERE;
  }
  return fetch(engine, port, table, (pointer & L2_POINTER) + (<u64>(pasid & ((1 << leaf) - 1)) << CD_LG2), 0);
}

/** Bits of IPS (6.3.6): codes beyond 52 bits mean no less. */
function ipsLg2(code: u32): u32 {
  if (code > 5) return 52;
  return code == 5 ? 48 : code == 0 ? 32 : code == 1 ? 36 : 38 + code;
}

/** Log2 of the granule that TG0 or TG1 codes, differently; 0 for a code without meaning. */
function granuleLg2(code: u32, upper: bool): u32 {
  if (upper) return code ? (code == 1 ? 14 : code == 2 ? 12 : 16) : 0;
  return code == 3 ? 0 : code == 0 ? 12 : code == 1 ? 16 : 14;
}

/** Describes the tables of a half that is not disabled; false: a field is ILLEGAL. */
function describeHalf(engine: usize, table: usize, record: usize, word: u64, ttb: u64, upper: bool, flags: u32): bool {
  const fields = <u32>(upper ? word >> 16 : word);
  const size = fields & 0x3f;
  const granule = granuleLg2(fields >> 6 & 3, upper);
  if (size < SMALLEST_SIZE || size > LARGEST_SIZE || !granule) return false;
  if (!(load<u32>(table, PASID_TABLE_FLAGS) & (1 << granule))) return false;
  const outputLg2 = min(ipsLg2(<u32>(word >> 32) & 7), load<u32>(table, PASID_TABLE_OUTPUT_LG2));
  const root = ttb & TTB;
  if (root & ~lowBits(outputLg2)) return false;
  // As few levels as the width needs; a start table is aligned to its size (Arm ARM, D8.2), 64 bytes at least.
  const width = 64 - size;
  const index = granule - 3;
  const levels = (width - granule + index - 1) / index;
  const start = max(6, width - (granule + (levels - 1) * index) + 3);
  const format = granule == 12 ? FORMAT_ARM_S1_4K : granule == 14 ? FORMAT_ARM_S1_16K : FORMAT_ARM_S1_64K;
  const ignored = word >> (upper ? 39 : 38) & 1 ? RULE_TBI : 0;
  const options = ttb & HAD ? OPTION_IGNORE_TABLE_PERMISSIONS : 0;
  const described = describe(engine, record, format, levels, (upper ? RULE_ONES : RULE_ZERO) | ignored, width, outputLg2, flags | options,
    root & ~lowBits(start), 0, 0);
  store<u32>(record, DOMAIN_VACANT, DOMAIN_STATE);
  return described;
}

/** A half without tables: no address of it obeys the rule. */
function describeNone(engine: usize, record: usize, upper: bool, flags: u32): void {
  describe(engine, record, FORMAT_ARM_S1_4K, 4, upper ? RULE_ZERO : RULE_ONES, 48, 48, flags, 0, 0, 0);
  store<u32>(record, DOMAIN_VACANT, DOMAIN_STATE);
}

/** The descriptor of a substream: an ENTRY_*. */
export function decodeSmmuv3(engine: usize, port: usize, table: usize, pasid: u32, scratch: usize): u32 {
  const at = descriptorAt(engine, port, table, pasid);
  if (at == NOWHERE) return ENTRY_REFUSED;
  const word = atomic.load<u64>(at);
  if (!(word & VALID)) return refuseEntry(port, REASON_PASID_NOT_PRESENT, 0, word);
  const can = load<u32>(table, PASID_TABLE_FLAGS);
  const illegal = !(word & AARCH64) || word & BIG_ENDIAN || (word & HA && !(can & PASID_SET_ACCESSED)) || (word & HD && !(can & PASID_SET_DIRTY));
  if (illegal) return refuseEntry(port, REASON_PASID_INVALID, 0, word);
  const accessed = word & HA ? DOMAIN_SET_ACCESSED : word & AFFD ? 0 : DOMAIN_ACCESS_FAULT;
  const flags = DOMAIN_GUEST | accessed | (word & HA && word & HD ? DOMAIN_SET_DIRTY : 0);
  const upper = scratch + DOMAIN_BYTES;
  if (word >> 14 & 1) describeNone(engine, scratch, false, flags);
  else if (!describeHalf(engine, table, scratch, word, atomic.load<u64>(at, 8), false, flags)) return refuseEntry(port, REASON_PASID_INVALID, 0, word);
  if (word >> 30 & 1) describeNone(engine, upper, true, flags);
  else if (!describeHalf(engine, table, upper, word, atomic.load<u64>(at, 16), true, flags)) return refuseEntry(port, REASON_PASID_INVALID, 0, word);
  nest(engine, table, scratch);
  joinHalves(engine, scratch);
  return ENTRY_STAGE1;
}
