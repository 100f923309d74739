// Every query of a vector file through the exact walker, the scalar call and the batch: cold, then warm in shuffled order, all
// of them compared with each other and with the recorded answer. Imports engine and its own folder.
import { Engine } from "../engine/engine.js";
import type { Port } from "../engine/port.js";
import { exactAnswer } from "./answer.js";
import { CaseMemory, roomFor } from "./case-memory.js";
import { CaseWorld } from "./case-world.js";
import { marksDifferences } from "./marks.js";
import { ask, askBatch, askExact, askScalar, forget, type Asked } from "./port-answers.js";
import { recordedDifferences, type FieldDifference } from "./recorded.js";
import { shuffled } from "./shuffle.js";
import { describeQuery, VectorError, type VectorCase, type VectorFile } from "./vectors.js";

/** By which way an answer was asked for; "memory": accessed and dirty bits that the answers left behind. */
export type Way = "exact" | "scalar" | "batch" | "warm exact" | "warm scalar" | "warm batch" | "memory";

export interface Difference extends FieldDifference {
  case: number;
  /** Place in its case; undefined when it is of the case as a whole. */
  query?: number;
  request: string;
  way: Way;
}

export interface ConformResult {
  family: string;
  cases: number;
  queries: number;
  equal: number;
  /** Queries whose recorded answer is known to be wrong, by quirk. */
  skipped: number;
  quirks: Record<string, number>;
  /** Queries, and cases' memories, with a difference. */
  different: number;
  differences: Difference[];
  seconds: number;
}

export interface ConformOptions {
  /** Of the shuffled order. Default 1. */
  seed?: number;
  /** Differences that are kept in full. Default 10. */
  keepDifferences?: number;
  /** Called after every case with the cases done. */
  onProgress?: (cases: number) => void;
}

const LANES = 4096;
const MOST_ROUTES = 1 << 20;

async function makeEngine(file: VectorFile): Promise<Engine> {
  const { ram, slots } = roomFor(file);
  const most = Math.max(1, ...file.cases.map((each) => each.queries.length));
  const lanes = Math.min(LANES, Math.ceil(most / 16) * 16);
  const streams = file.cases.reduce((n, each) => n + new Set(each.queries.map((query) => `${query.rid}/${query.pasid}`)).size, 0);
  const routes = 2 ** Math.ceil(Math.log2(streams * 2 + 8));
  if (routes > MOST_ROUTES) throw new VectorError("", `names ${streams} streams; at most ${MOST_ROUTES / 2 - 8} are taken`);
  // Each stream has at most a domain of its own and two under it.
  const domains = Math.min(65536, 3 * most + 3);
  const faults = 2 ** Math.ceil(Math.log2(lanes));
  const arena = (8 << 20) + routes * 72 + domains * 128 + slots * 24 + (LANES + faults) * 512;
  return Engine.create({
    memory: { ram, arena: Math.ceil(arena / 65536) * 65536 }, slots, routes, domains, ports: { count: 2, lanes, faults, iotlbSets: 256 },
  });
}

class Run {
  readonly #memory: CaseMemory;
  readonly #scalar: Port;
  readonly #batch: Port;
  readonly #keep: number;
  readonly result: ConformResult;
  /** Queries of the running case that have a difference, and -1 for its memory. */
  readonly #wrong = new Set<number>();

  constructor(readonly engine: Engine, readonly file: VectorFile, readonly seed: number, keep: number) {
    this.#memory = new CaseMemory(engine, file.unit.ram);
    this.#scalar = engine.openPort();
    this.#batch = engine.openPort();
    this.#keep = keep;
    this.result = {
      family: file.family, cases: 0, queries: 0, equal: 0, skipped: 0, quirks: {}, different: 0, differences: [], seconds: 0,
    };
  }

  #note(each: VectorCase, query: number | undefined, way: Way, { field, expected, got }: FieldDifference): void {
    const first = !this.#wrong.has(query ?? -1);
    this.#wrong.add(query ?? -1);
    if (!first || this.result.differences.length >= this.#keep) return;
    const request = query === undefined ? "" : describeQuery(each.queries[query]!);
    this.result.differences.push({ case: each.id, ...(query === undefined ? {} : { query }), request, way, field, expected, got });
  }

  case(each: VectorCase): void {
    this.#memory.load(each);
    const world = new CaseWorld(this.engine, this.file.unit, each);
    this.#wrong.clear();
    const asked = this.#exact(world, each);
    this.#ports(world, each, asked);
    world.close();
    const { result } = this;
    result.cases++;
    result.queries += each.queries.length;
    result.different += this.#wrong.size;
    this.#wrong.delete(-1);
    result.equal += asked.length - this.#wrong.size;
  }

  /** The exact walker, against the recorded answers. It reads only. */
  #exact(world: CaseWorld, each: VectorCase): Asked[] {
    const { result, file } = this;
    return each.queries.flatMap((query, index) => {
      if (query.quirk !== undefined) {
        result.skipped++;
        result.quirks[query.quirk] = (result.quirks[query.quirk] ?? 0) + 1;
        return [];
      }
      const answer = exactAnswer(world, query);
      const [difference] = recordedDifferences(answer, query.expect, file.unit);
      if (difference) this.#note(each, index, "exact", difference);
      return [ask(query, index, answer)];
    });
  }

  /** The ports, against the exact walker. The first pass keeps the recorder's order: what it leaves in memory is compared. */
  #ports(world: CaseWorld, each: VectorCase, asked: readonly Asked[]): void {
    const { engine } = this;
    const noting = (way: Way) => (one: Asked, field: string, expected: string, got: string): void =>
      this.#note(each, one.index, way, { field, expected, got });
    askScalar(engine, this.#scalar, asked, true, noting("scalar"));
    for (const difference of marksDifferences(world, each, asked)) this.#note(each, undefined, "memory", difference);
    forget(engine, asked);
    askBatch(this.#batch, asked, noting("batch"));
    const seed = this.seed + each.id;
    askScalar(engine, this.#scalar, asked, false, noting("warm scalar"));
    askScalar(engine, this.#scalar, shuffled(asked, seed), false, noting("warm scalar"));
    askBatch(this.#batch, shuffled(asked, seed + 1), noting("warm batch"));
    askExact(engine, asked, noting("warm exact"));
  }

  close(): void {
    this.#scalar.close();
    this.#batch.close();
  }
}

/** Throws VectorError for a word outside RAM, UnsupportedUnit for a kind of IOMMU that is not modelled. */
export async function conform(file: VectorFile, options: ConformOptions = {}): Promise<ConformResult> {
  const start = performance.now();
  const run = new Run(await makeEngine(file), file, options.seed ?? 1, options.keepDifferences ?? 10);
  for (const [n, each] of file.cases.entries()) {
    run.case(each);
    options.onProgress?.(n + 1);
  }
  run.close();
  run.result.seconds = (performance.now() - start) / 1000;
  return run.result;
}
