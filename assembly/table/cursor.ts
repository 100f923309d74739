// Tables by address, and what one record of a list knows from the one before it: lists ascend, so that the tables that served one
// mostly serve the next. Imports layout, frames, map, root, unmap, the format contract.
import { DOMAIN_LEVELS } from "../layout";
import { EntryOf, Format, lowBits } from "../format/format";
import { Frames, takeFrame } from "./frames";
import { plan, planFrom, put, putFrom } from "./map";
import { Start, tableOrder } from "./root";
import { take, takeFrom } from "./unmap";

/** The table of `level` that serves iova, 0 if there is none. */
export function tableAt<F extends Format>(domain: usize, iova: u64, level: u32): usize {
  const f = changetype<F>(0);
  const levels = load<u32>(domain, DOMAIN_LEVELS);
  if (levels <= level) return 0;
  let table = Start.table<F>(domain, iova);
  for (let above = levels - 1; above > level; above--) {
    const pte = load<u64>(table + EntryOf.offset<F>(iova, above));
    if (!f.isTable(pte, above, 0)) return 0;
    table = <usize>f.tableAddress(pte);
  }
  return table;
}

/** Log2 of what a table of level 1 spans. */
export function aboveLg2<F extends Format>(): u32 {
  const f = changetype<F>(0);
  return f.spanLg2(1) + f.tableLg2();
}

/** The table of `level` that serves iova; it and those above are made where they are missing. */
export function growTo<F extends Format>(engine: usize, domain: usize, iova: u64, level: u32): usize {
  const f = changetype<F>(0);
  let table = Start.table<F>(domain, iova);
  for (let above = load<u32>(domain, DOMAIN_LEVELS) - 1; above > level; above--) {
    const entry = table + EntryOf.offset<F>(iova, above);
    let pte = load<u64>(entry);
    if (!f.isTable(pte, above, 0)) {
      pte = f.makeTable(above, takeFrame(engine, tableOrder<F>(), true));
      atomic.store<u64>(entry, pte);
      Frames.addLive(engine, table, 1);
    }
    table = <usize>f.tableAddress(pte);
  }
  return table;
}

/** What is known from the record or entry before: tables of parent and child, and how far is planned. Only `take` removes tables meanwhile. */
@unmanaged
export class Cursor {
  parentKey: u64;
  parentAboveKey: u64;
  childKey: u64;
  aboveKey: u64;
  /** Where the last piece that was planned ends. */
  after: u64;
  parentTable: usize;
  /** The parent's table of level 1; 0 if there is none. */
  parentAbove: usize;
  /** The page table of the child; 0: it is missing, which the first pass has counted. */
  childTable: usize;
  /** The child's table of level 1; 0 if there is none. */
  above: usize;
  /** Level of the parent's entry that was found last. */
  level: u32;
  /** Nothing is planned yet: `after` means nothing. */
  fresh: bool;

  /** No table is known. No address has such a key. */
  @inline reset(): void {
    this.parentKey = ~(<u64>0);
    this.parentAboveKey = ~(<u64>0);
    this.childKey = ~(<u64>0);
    this.aboveKey = ~(<u64>0);
    this.fresh = true;
  }

  /** Can a table of level 1 serve all of [at..end], and no larger leaf? */
  @inline static isBelowOne<F extends Format>(child: usize, at: u64, end: u64): bool {
    return (at ^ end) >> aboveLg2<F>() == 0 && end - at != lowBits(aboveLg2<F>()) && load<u32>(child, DOMAIN_LEVELS) > 1;
  }

  /** The child's table of level 1 that serves iova; 0 if there is none. */
  @inline aboveOf<F extends Format>(child: usize, iova: u64): usize {
    const key = iova >> aboveLg2<F>();
    if (key != this.aboveKey) {
      this.aboveKey = key;
      this.above = tableAt<F>(child, iova, 1);
    }
    return this.above;
  }

  /** The child's page table that serves iova; 0 if there is none. */
  pageTable<F extends Format>(child: usize, iova: u64): usize {
    const f = changetype<F>(0);
    const above = this.aboveOf<F>(child, iova);
    if (!above) return load<u32>(child, DOMAIN_LEVELS) > 1 ? 0 : tableAt<F>(child, iova, 0);
    const pte = load<u64>(above + EntryOf.offset<F>(iova, 1));
    return f.isTable(pte, 1, 0) ? <usize>f.tableAddress(pte) : 0;
  }

  /** The table of level 1 that serves iova, made where it is missing. Not for a child of one level. */
  growAbove<F extends Format>(engine: usize, child: usize, iova: u64): usize {
    if (!this.aboveOf<F>(child, iova)) this.above = growTo<F>(engine, child, iova, 1);
    return this.above;
  }

  /** Tables of the child that [at..end] -> hpa needs and no piece before it, or OVERLAP. */
  plan<F extends Format>(child: usize, at: u64, end: u64, hpa: u64, sizes: u64): u32 {
    const after = this.fresh ? ~at : this.after;
    const below = Cursor.isBelowOne<F>(child, at, end);
    const above = below ? this.aboveOf<F>(child, at) : 0;
    // If a table of level 1 is missing for the piece before too, it is counted with those above it.
    const isCounted = below && (at ^ after) >> aboveLg2<F>() == 0;
    const tables = above || isCounted ? plan<F>(above, 1, at, end, hpa, sizes, after) : planFrom<F>(child, at, end, hpa, sizes, after);
    this.after = end;
    this.fresh = false;
    return tables;
  }

  /** Writes what `plan` has allowed. */
  put<F extends Format>(engine: usize, child: usize, at: u64, end: u64, hpa: u64, perm: u32, sizes: u64): void {
    if (Cursor.isBelowOne<F>(child, at, end)) {
      put<F>(engine, this.growAbove<F>(engine, child, at), 1, at, end, hpa, perm, sizes);
      return;
    }
    putFrom<F>(engine, child, at, end, hpa, perm, sizes);
    // What was missing may be there now.
    if (!this.above) this.aboveKey = ~(<u64>0);
  }

  /** Removes [first..last] as `takeFrom` does. */
  take<F extends Format>(engine: usize, child: usize, first: u64, last: u64): u64 {
    const above = Cursor.isBelowOne<F>(child, first, last) ? this.aboveOf<F>(child, first) : 0;
    const bytes = above ? take<F>(engine, above, 1, first, last) : 0;
    if (above && Frames.live(engine, above)) return bytes;
    // It goes too, with those above it that it was the last of.
    this.aboveKey = ~(<u64>0);
    return bytes + takeFrom<F>(engine, child, first, last);
  }
}
