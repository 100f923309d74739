// One case in an engine: its memory, the unit that reads it, and domains and routes for the streams that are asked for. A
// domain is made once for each configuration, a route once for each stream. Imports engine, iommu and its own folder.
import type { Engine } from "../engine/engine.js";
import type { Walk } from "../engine/walk-record.js";
import { SlotMemory } from "../iommu/structures/slot-memory.js";
import type { Stage } from "../iommu/structures/structure.js";
import type { DomainTree, Stream, StructureSpace, Unit } from "../iommu/units/unit.js";
import { unitOf } from "./units.js";
import type { Query, UnitSpec, VectorCase } from "./vectors.js";

/** One stream as the engine has it. */
export interface Subject {
  stream: Stream;
  /** -1: none. */
  domain: number;
  route: number;
}

const keyOf = (tree: object): string => JSON.stringify(tree, (_key, value) => (typeof value === "bigint" ? value.toString() : value));

export class CaseWorld implements StructureSpace {
  readonly unit: Unit;
  readonly #memory: SlotMemory;
  readonly #domains = new Map<string, number>();
  /** In the order in which they were made: one that stands on another comes after it. */
  readonly #made: number[] = [];
  readonly #subjects = new Map<string, Subject>();

  constructor(readonly engine: Engine, spec: UnitSpec, { top }: VectorCase) {
    this.#memory = new SlotMemory(engine);
    this.unit = unitOf(spec, top, this);
  }

  read64(gpa: bigint): bigint | undefined {
    return this.#memory.read64(gpa);
  }

  walk(stage: Stage, ipa: bigint, need: number): Walk {
    return this.engine.walk(this.#domain(stage), ipa, need);
  }

  #domain({ nested, upperHalf, ...stage }: DomainTree): number {
    const under = {
      ...(nested === undefined ? {} : { stage2: this.#domain(nested) }),
      ...(upperHalf === undefined ? {} : { upper: this.#domain(upperHalf) }),
    };
    const key = keyOf([stage, under]);
    let domain = this.#domains.get(key);
    if (domain === undefined) {
      domain = this.engine.createDomain({ ...stage, ...under });
      this.#domains.set(key, domain);
      this.#made.push(domain);
    }
    return domain;
  }

  subject({ rid, pasid }: Query): Subject {
    const key = `${rid}/${pasid ?? ""}`;
    let subject = this.#subjects.get(key);
    if (subject === undefined) {
      subject = this.#makeSubject(rid, pasid);
      this.#subjects.set(key, subject);
    }
    return subject;
  }

  #makeSubject(rid: number, pasid: number | undefined): Subject {
    const stream = this.unit.stream(rid, pasid);
    const route = this.engine.route(rid, pasid);
    if (stream.kind === "identity") this.engine.identityRoute(route);
    const domain = stream.kind === "translate" ? this.#domain(stream.domain) : -1;
    if (domain >= 0) this.engine.attachRoute(route, domain);
    return { stream, domain, route };
  }

  /** Blocks every route and destroys every domain. */
  close(): void {
    for (const { route } of this.#subjects.values()) this.engine.blockRoute(route);
    for (const domain of this.#made.reverse()) this.engine.destroyDomain(domain);
    this.#made.length = 0;
    this.#subjects.clear();
    this.#domains.clear();
  }
}
