// What does a change of a nested space cost, as areas grow in number? Through the uAPI: one page of the parent is unmapped and
// mapped again, which the child's shadow follows; and one area of the child is. The same work in spaces with fewer areas is what
// it is compared with: it should not matter how many others there are.
import { randomBelow } from "../random.mjs";
import { nestedSpaces, PAGE } from "../worlds.mjs";

/** The same pages, spread over all, again and again in every variant: what is asked is the work, not what caches hold. */
const CALLS = 128;
const SUBJECT = 100_000;
const FEWER = [1_000, 10_000];

const nameOf = (areas) => `${areas.toLocaleString("en")} areas`;

/** Unmaps and maps again one of the pages of a space, another one each call. */
async function changes(areas, space) {
  const world = await nestedSpaces(areas);
  const { fd } = world;
  const { ioasid, iovaOf, vaddrOf } = world[space];
  const random = randomBelow(areas);
  const pages = Array.from({ length: CALLS }, () => random(areas));
  const args = pages.map((n) => ({ ioasid, iova: iovaOf(n), vaddr: vaddrOf(n), size: BigInt(PAGE) }));
  const ranges = args.map(({ iova, size }) => ({ ioasid, iova, size }));
  checkFollows(world, space, ranges[0], args[0], pages[0]);
  const output = new Float64Array(1);
  return {
    name: nameOf(areas), calls: CALLS, output, items: 2,
    run(call) {
      if (fd.dmaUnmap(ranges[call]).size !== BigInt(PAGE)) throw new Error("the page was not mapped");
      fd.dmaMap(args[call]);
      output[0] = PAGE;
    },
  };
}

/** The device, which is attached to the child, loses exactly the page that goes, and gets it back. */
function checkFollows({ fd, areas, behind, reached }, space, range, arg, page) {
  const here = space === "child" ? page : Array.from({ length: areas }, (_, n) => n).find((n) => behind(n) === page);
  const other = (here + 1) % areas;
  const expect = (...wanted) => {
    if (reached(here) !== wanted[0] || reached(other) !== wanted[1]) throw new Error("the shadow does not follow");
  };
  expect(true, true);
  fd.dmaUnmap(range);
  expect(false, true);
  fd.dmaMap(arg);
  expect(true, true);
}

function row(name, space, about) {
  return {
    name, about, unit: "change", baselines: FEWER.map(nameOf),
    async prepare() {
      const variants = [];
      for (const areas of [SUBJECT, ...FEWER]) variants.push(await changes(areas, space));
      return { variants, notes: () => [] };
    },
  };
}

export const rows = [
  row("parent-change", "parent", `unmap or map of one page of a parent under ${nameOf(SUBJECT)} of a child over as many maps`),
  row("child-change", "child", `unmap or map of one of ${nameOf(SUBJECT)} of a child over as many maps of its parent`),
];
