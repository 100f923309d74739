// The model IOTLB: an IOTLB that never evicts. It keeps every translation that any port was seen to hold until an
// invalidation drops it, as hardware may, and asks the reference walker whether each kept one still holds.
// May import the other oracles; ranges are first..last, inclusive.
//
// Work per call is bounded: `observe` walks at most NEW_WALKS of the entries that are new, `check(budget)` looks at up to
// `budget` kept translations and as many ways of each port, resuming where it stopped; without a budget it looks at all.
// A translation whose table entries are word for word those of its last walk is not walked again, which is sound because
// a walk reads nothing else. What a port fills and evicts between two observations is not seen.
import {
  checkPools, checkRoutes, covers, dropsSince, hex, idOwners, liveDomains, ringHead, TAG_PAGES, withoutPublications, type Drop, type EngineView, type IdOwner,
} from "./engine-state.js";
import { makeKept, verifyKept, type Kept } from "./kept.js";
import { PortCopies, type ObservedPort } from "./port-copies.js";

const NEW_WALKS = 512;

export class ModelIotlb {
  /** id -> page number -> translations, which differ in their data. */
  private readonly kept = new Map<number, Map<number, Kept[]>>();
  private readonly copies: PortCopies;
  /** As of the last check. */
  private owners: ReadonlyMap<number, IdOwner> = new Map();
  private tail: number;
  private cursor: Iterator<Kept>;
  private wayCursor = 0;

  constructor(private readonly engine: EngineView) {
    this.copies = new PortCopies(engine);
    this.tail = ringHead(engine);
    this.cursor = this.everyKept();
  }

  /** Number of translations kept, those of retired ids included. */
  get size(): number {
    const lists = [...this.kept.values()].flatMap((pages) => [...pages.values()]);
    return lists.reduce((sum, list) => sum + list.length, 0);
  }

  /** Translations that an IOTLB may hold now: kept, not dropped, of ids that have an owner. */
  live(): IterableIterator<Kept> {
    return this.everyKept();
  }

  /** Says whether this thread uses the port: then its sections do not stop the model from reading it. */
  own(port: number, mine: boolean): void {
    this.copies.own(port, mine);
  }

  /**
   * Keeps what every port holds now, but for what its own pending invalidations drop, and checks the new entries. No change
   * of a table may be under way. Answers the ports that were read. Throws an OracleError.
   */
  observe(): ObservedPort[] {
    const fresh: Kept[] = [];
    const ports = this.copies.read((id, page, data) => {
      const kept = this.keep(id, page, data);
      fresh.push(kept);
      return kept;
    });
    if (fresh.length === 0) return ports;
    const owners = idOwners(liveDomains(this.engine));
    for (const kept of fresh.slice(0, NEW_WALKS)) verifyKept(this.engine, owners, kept, "a port holds");
    return ports;
  }

  private keep(id: number, page: number, data: bigint): Kept {
    const pages = this.kept.get(id) ?? new Map<number, Kept[]>();
    const list = pages.get(page) ?? [];
    this.kept.set(id, pages);
    pages.set(page, list);
    let kept = list.find((one) => one.data === data);
    if (!kept) list.push(kept = makeKept(id, page, data));
    return kept;
  }

  /** Drops what the engine has invalidated since the last time, read from its ring as one more port would. */
  applyRing(): void {
    for (const drop of dropsSince(this.engine, this.tail)) this.drop(drop);
    this.tail = ringHead(this.engine);
  }

  private drop(drop: Drop): void {
    // A range may run from the last pages of an id into the next id.
    const ids = drop === "all" ? [...this.kept.keys()] : drop.page + drop.span < TAG_PAGES ? [drop.id] : [drop.id, drop.id + 1];
    for (const id of ids) {
      const pages = this.kept.get(id);
      if (!pages) continue;
      for (const page of pagesOf(drop, pages)) {
        if (!covers(drop, id, page)) continue;
        for (const kept of pages.get(page) ?? []) kept.dropped = true;
        pages.delete(page);
      }
    }
  }

  /**
   * Observes, then asserts: ids are unique, routes carry the ids of their domains, no kept translation with a live id and no
   * entry that a port still holds contradicts the reference walk. Throws an OracleError otherwise.
   */
  check(budget = Infinity): void {
    withoutPublications(this.engine, () => this.checkNow(budget));
  }

  private checkNow(budget: number): void {
    const domains = liveDomains(this.engine);
    this.owners = idOwners(domains);
    checkRoutes(this.engine, domains, budget === Infinity);
    checkPools(this.engine, domains);
    for (const port of this.observe()) this.checkPort(port, budget);
    if (budget === Infinity) this.wayCursor = 0;
    else this.wayCursor += budget;
    this.checkKept(budget);
  }

  /** Also what the model has dropped: a port that applied an invalidation and kept the entry shows here. */
  private checkPort(port: ObservedPort, budget: number): void {
    const { ways, pending } = port;
    for (let n = 0; n < Math.min(ways.length, budget); n++) {
      const kept = ways[(this.wayCursor + n) % ways.length];
      if (!kept || pending.some((drop) => covers(drop, kept.id, kept.page))) continue;
      verifyKept(this.engine, this.owners, kept, `port ${hex(port.address)} holds`);
    }
  }

  private checkKept(budget: number): void {
    if (budget === Infinity) {
      for (const kept of this.everyKept()) verifyKept(this.engine, this.owners, kept, "an IOTLB may hold");
      return;
    }
    for (let n = 0; n < budget; n++) {
      const next = this.cursor.next();
      if (next.done) {
        this.cursor = this.everyKept();
        return;
      }
      verifyKept(this.engine, this.owners, next.value, "an IOTLB may hold");
    }
  }

  /** Retired ids are passed over: nothing matches them unless they come back to life, and then they have an owner. */
  private *everyKept(): Generator<Kept> {
    for (const [id, pages] of this.kept) {
      if (!this.owners.has(id)) continue;
      for (const list of pages.values()) {
        for (const kept of list) if (!kept.dropped) yield kept;
      }
    }
  }
}

/** The shorter of the two ways to find the kept pages that a drop may cover. */
function pagesOf(drop: Drop, pages: Map<number, Kept[]>): number[] {
  if (drop === "all" || drop.span >= pages.size) return [...pages.keys()];
  return Array.from({ length: drop.span + 1 }, (_none, n) => (drop.page + n) % TAG_PAGES);
}

/** Every open port's IOTLB against the tables, in full and without memory of earlier calls. See `ModelIotlb.check`. */
export function checkIotlb(engine: EngineView): void {
  new ModelIotlb(engine).check();
}
