// What batch walks are made of, for one lane: the way to the entry that ends its walk, what that entry grants, and the answer.
// Imports layout, memory, iotlb, request, the format contract; knows no format.
import {
  DATA_VALID, DOMAIN_ACCESS_FAULT, DOMAIN_BIAS, DOMAIN_FLAGS, DOMAIN_FRAGMENTED, DOMAIN_HIGH, DOMAIN_LEVELS, DOMAIN_RESERVED_LEAF,
  DOMAIN_RESERVED_TABLE, DOMAIN_ROOT, DOMAIN_SET_ACCESSED, DOMAIN_SET_DIRTY, DOMAIN_WALKER, LANE_INDEX, LANE_LEVEL, LANE_PTE, LANE_ROUTE,
  LANE_TABLES, PERM_ANY_W, RESULT_RUN_SHIFT, ROUTE_BIAS, ROUTE_HIGH, ROUTE_KIND, ROUTE_TRANSLATE,
} from "../layout";
import { EntryOf, Format, LEAF } from "../format/format";
import { Fill } from "../iotlb";
import { locate, NOWHERE, TableSpace } from "../memory";
import { Request } from "../request";

/** No PERM_*: the entry is for the exact walker. */
export const LEFT: u32 = 0xffffffff;

/** Pass one of a lane whose tables are not all in the fast slot: its place is looked up at each level. Answers as findEntry. */
export function findSlowly<F extends Format>(engine: usize, half: usize, iova: u64, lane: usize, sink: u32): u32 {
  const f = changetype<F>(0);
  const reserved = load<u64>(half, DOMAIN_RESERVED_TABLE);
  const levels = load<u32>(half, DOMAIN_LEVELS);
  let level = levels - 1;
  let tables = f.start();
  let at = locate(engine, load<u64>(half, DOMAIN_ROOT) + EntryOf.start(half, iova));
  while (level && at != NOWHERE) {
    const pte = load<u64>(at);
    if (!f.isTable(pte, level, reserved)) break;
    level--;
    tables = f.combine(tables, pte);
    at = locate(engine, f.tableAddress(pte) + EntryOf.offset<F>(iova, level));
  }
  // What is nowhere is not read: of such a lane only the number of its reads matters.
  store<u32>(lane, at == NOWHERE ? sink : <u32>at, LANE_PTE);
  store<u32>(lane, at == NOWHERE ? level + 1 : level, LANE_LEVEL);
  store<u64>(lane, tables, LANE_TABLES);
  return levels;
}

@unmanaged
export abstract class Lane {
  /**
   * Pass one for one lane: the levels are unrolled, so that shifts and masks are constants. `half` holds root and rule. Answers
   * its levels: the walk reads as many entries, the last one included, less LANE_LEVEL. `mixed`: nobody can foretell whether the
   * entry above the leaf table is a leaf itself, so that there is no branch.
   */
  @inline static findEntry<F extends Format, S extends TableSpace>(
    engine: usize, half: usize, iova: u64, lane: usize, sink: u32, mixed: bool, fastFirst: u64, fastSpan: u64, fastDelta: usize,
  ): u32 {
    const f = changetype<F>(0);
    const s = changetype<S>(0);
    const levels = load<u32>(half, DOMAIN_LEVELS);
    const reserved: u64 = s.trusted() ? 0 : load<u64>(half, DOMAIN_RESERVED_TABLE);
    let tables = f.start();
    // Of an address that breaks the rule no entry is read.
    let level = levels;
    let at: usize = sink;
    let outside = false;
    if (((iova + load<u64>(half, DOMAIN_BIAS)) & load<u64>(half, DOMAIN_HIGH)) == 0) {
      level = 0;
      const root = load<u64>(half, DOMAIN_ROOT);
      const start = EntryOf.start(half, iova);
      at = s.entry(root, start, fastDelta);
      do {
        if (!s.holds(root, start, fastFirst, fastSpan)) { outside = true; break; }
        if (f.maxLevels() > 5 && levels > 5) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 5, reserved)) { level = 5; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 4);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.maxLevels() > 4 && levels > 4) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 4, reserved)) { level = 4; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 3);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.maxLevels() > 3 && (f.minLevels() > 3 || levels > 3)) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 3, reserved)) { level = 3; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 2);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.minLevels() > 2 || levels > 2) {
          const pte = load<u64>(at);
          if (!f.isTable(pte, 2, reserved)) { level = 2; break; }
          tables = f.combine(tables, pte);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 1);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
        if (f.minLevels() > 1 || levels > 1) {
          const pte = load<u64>(at);
          const table = f.tableAddress(pte);
          const index = EntryOf.offset<F>(iova, 0);
          const leads = f.isTable(pte, 1, reserved);
          if (s.trusted() && mixed) {
            tables = select<u64>(f.combine(tables, pte), tables, leads);
            at = select<usize>(s.entry(table, index, fastDelta), at, leads);
            level = select<u32>(0, 1, leads);
            break;
          }
          if (!leads) { level = 1; break; }
          tables = f.combine(tables, pte);
          if (!s.holds(table, index, fastFirst, fastSpan)) { outside = true; break; }
          at = s.entry(table, index, fastDelta);
        }
      } while (false);
      if (!s.trusted() && outside) {
        return findSlowly<F>(engine, half, iova, lane, sink);
      }
    }
    store<u32>(lane, <u32>at, LANE_PTE);
    store<u32>(lane, level, LANE_LEVEL);
    store<u64>(lane, tables, LANE_TABLES);
    return levels;
  }

  /** Does the route lead to tables, and are these `walker`'s? Without a branch: no record of a domain is out of reach. */
  @inline static isFor(walker: u32, route: usize, domain: usize): bool {
    // What a port fills of a route it has read after its kind.
    const kind = atomic.load<u32>(route, ROUTE_KIND);
    return ((kind ^ ROUTE_TRANSLATE) | (<u32>load<u8>(domain, DOMAIN_WALKER) ^ walker)) == 0;
  }

  /** PERM_* of the entry that ends a walk, as they may be cached; LEFT if it is no leaf, or one that only the exact walker may use. */
  @inline static grants<F extends Format>(trusted: bool, domain: usize, half: usize, pte: u64, level: u32, tables: u64): u32 {
    const f = changetype<F>(0);
    if (f.kind(pte, level) != LEAF) return LEFT;
    if (!trusted && (pte & load<u64>(half, DOMAIN_RESERVED_LEAF)) != 0) return LEFT;
    const flags = load<u32>(domain, DOMAIN_FLAGS);
    const perm = f.permissions(tables, pte, f.halves() ? load<u32>(half, DOMAIN_FLAGS) : flags);
    if (!(flags & (DOMAIN_SET_ACCESSED | DOMAIN_SET_DIRTY | DOMAIN_ACCESS_FAULT))) return perm;
    // The walk that sets these bits is the exact one; until then the entry may not be written through unseen.
    if (flags & (DOMAIN_SET_ACCESSED | DOMAIN_ACCESS_FAULT) && !f.accessed(tables, pte)) return LEFT;
    return flags & DOMAIN_SET_DIRTY && f.clean(pte) ? perm & ~PERM_ANY_W : perm;
  }

  /** Writes the result of a lane that is allowed what it wants, and fills the IOTLB. */
  @inline static answer(port: usize, lane: usize, domain: usize, results: u32, iova: u64, hpa: u64, lg2: u32, perm: u32): void {
    const route = <usize>load<u32>(lane, LANE_ROUTE);
    if (((iova + load<u64>(route, ROUTE_BIAS)) & load<u64>(route, ROUTE_HIGH)) == 0) {
      if (Fill.walked(port, route, iova, hpa, lg2, DATA_VALID | <u64>perm)) atomic.store<u32>(domain, 1, DOMAIN_FRAGMENTED);
    }
    store<u64>(results + (load<u32>(lane, LANE_INDEX) << 3), hpa | (<u64>lg2 << RESULT_RUN_SHIFT));
  }
}
