// Where the recorder of the vectors differs from the architecture, our answers are the architecture's: the table of quirks in
// test/vectors/README.md, asked of the exact walker and the units. `ioasid conform` skips these queries.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";
import { exactAnswer, type Answer } from "../../src/vectors/answer.js";
import { CaseMemory, roomFor } from "../../src/vectors/case-memory.js";
import { CaseWorld } from "../../src/vectors/case-world.js";
import { readVectors } from "../../src/vectors/read-node.js";
import type { Query } from "../../src/vectors/vectors.js";

/** Every so many cases of a file. */
const SHARE = 3;
const FILES = ["amdvi-v1", "smmuv3-stream-2level", "smmuv3-s1-4k", "smmuv3-nested-4k", "vtd-legacy-aw48", "vtd-scalable-fs", "vtd-scalable-ss-aw48"];

const answers = new Map<string, [Query, Answer][]>();

async function answerQuirks(name: string): Promise<void> {
  const file = readVectors(`test/vectors/${name}.json.gz`);
  const { ram, slots } = roomFor(file);
  const engine = await Engine.create({ memory: { ram, arena: 16 << 20 }, slots, routes: 16384, domains: 1024, ports: { count: 1, lanes: 16 } });
  const memory = new CaseMemory(engine, file.unit.ram);
  for (let n = 0; n < file.cases.length; n += SHARE) {
    const each = file.cases[n]!;
    memory.load(each);
    const world = new CaseWorld(engine, file.unit, each);
    for (const query of each.queries) {
      if (query.quirk === undefined) continue;
      const list = answers.get(query.quirk) ?? [];
      answers.set(query.quirk, list);
      list.push([query, exactAnswer(world, query)]);
    }
    world.close();
  }
}

/** The PASID-table entry that was read, if it came to that, is the request's own one of 64 bytes. */
function readOwnEntry({ pasid = 0 }: Query, { subject: { stream } }: Answer): boolean {
  return stream.read.every(({ structure, address }) => structure !== "pasid-table-entry" || Number(address & 0xfffn) === (pasid & 63) * 64);
}

const SILENCED = (answer: Answer): boolean => answer.fault?.reported === false;
const fault = (answer: Answer): string | undefined => answer.fault?.name;

describe("the architecture, where the recorder differs", () => {
  beforeAll(async () => {
    for (const name of FILES) await answerQuirks(name);
  }, 120_000);
  afterAll(() => answers.clear());

  it.each<[string, string, (query: Query, answer: Answer) => boolean]>([
    ["pt-width", "pass-through refuses an address beyond the width", (_q, a) => fault(a) === "address-beyond-width"],
    ["irq-page", "only outputs among the interrupt messages are refused", (_q, a) => a.pa !== undefined && (a.pa < 0xfee00000n || a.pa > 0xfeefffffn)],
    ["order", "every such request is refused", (_q, a) => a.fault !== undefined],
    ["pasid-present-unchecked", "an entry that is not present is one", (_q, a) => fault(a) === "pasid-entry-not-present" && a.fault?.code === 0x59],
    ["fpd-not-honoured", "the PASID entry's FPD silences it", (_q, a) => fault(a) === "pasid-entry-not-present" && SILENCED(a)],
    ["pasid0-check", "the PASID-0 entry counts for PASID 0 alone", (q, a) => (q.pasid ?? 0) !== 0 && readOwnEntry(q, a)],
    ["perm-early", "permission is judged at the last level, after all else", (_q, a) => a.fault !== undefined && !(fault(a) === "F_PERMISSION" && a.fault.stage === 1)],
    ["tt-stage", "a refusal of a stage-1 table's address is of stage 2", (q, a) => fault(a) === q.expect.fault && a.fault?.stage === 2 && a.fault.class === "TT"],
    ["ttb-eager", "the other table base is not looked at", (_q, a) => a.fault?.class !== "CD"],
    ["span", "span n is 2^(n-1) entries", (_q, a) => fault(a) === "C_BAD_STREAMID"],
    ["perm-accumulate", "a translation needs the permission at every level", (q, a) => a.fault !== undefined || (a.walk!.perm & (q.write ? 2 : 1)) !== 0],
    ["mode7-no-event", "mode 7 is illegal", (_q, a) => fault(a) === "ILLEGAL_DEV_TABLE_ENTRY"],
    ["mode0-no-event", "mode 0 refuses with a page fault what IR and IW deny", (q, a) => (q.expect.fault === undefined ? a.pa === q.expect.pa : fault(a) === "IO_PAGE_FAULT")],
  ])("%s: %s", (quirk, _rule, holds) => {
    const all = answers.get(quirk) ?? [];
    expect(all.length).toBeGreaterThan(0);
    expect(all.filter(([query, answer]) => !holds(query, answer)).map(([query, answer]) => [query, answer.fault ?? answer.pa])).toEqual([]);
  });
});
