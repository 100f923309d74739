// The frame oracle passes on a sound engine, and fails when its tables, counts or lists are spoiled.
import { beforeEach, expect, it } from "vitest";
import {
  ENGINE_FRAME_FREE, ENGINE_FRAME_LIVE, ENGINE_FRAMES, ENGINE_FRAMES_USED, FORMAT_AMD_V1, FRAME_BYTES,
} from "../../src/engine/layout.js";
import { expectNoLeaks } from "../oracle/frame-leaks.js";
import { Spoilable } from "../oracle/spoilable.js";

let its: Spoilable;
/** Index of the frame that holds the last entry of the walk of iova. */
const frameOf = (iova: bigint): number => Math.floor((its.pteOf(iova) - its.header(ENGINE_FRAMES)) / FRAME_BYTES);
const liveOf = (iova: bigint): number => its.header(ENGINE_FRAME_LIVE) + frameOf(iova) * 2;

// Five tables: the root, and two below it for each of the two areas. The 64 KiB leaf is 16 entries.
beforeEach(async () => {
  its = await Spoilable.create({ format: FORMAT_AMD_V1 });
  its.map(0x1_0000n, 0x1_ffffn, 0x10_0000n);
  its.map(0x4000_0000n, 0x4000_0fffn, 0n);
});

it("counts the tables, before and after they are freed", () => {
  expect(expectNoLeaks(its.engine)).toBe(5);
  its.unmap(0x4000_0000n, 0x4000_0fffn);
  expect(expectNoLeaks(its.engine)).toBe(3);
  its.engine.blockRoute(its.route);
  its.engine.destroyDomain(its.domain);
  expect(expectNoLeaks(its.engine)).toBe(0);
});

it("sees a live count that is not the table's", () => {
  its.store16(liveOf(0x1_0000n), 15);
  expect(() => expectNoLeaks(its.engine)).toThrow(/counts 15 entries, has 16/);
});

it("sees an entry that means nothing", () => {
  its.store64(its.pteOf(0x4000_1000n), 0x1000n);
  expect(() => expectNoLeaks(its.engine)).toThrow(/reads as empty/);
});

it("sees a table that was lost", () => {
  const root = Number(its.engine.walk(its.domain, 0x4000_0000n, 0).steps[0]!.address);
  its.store64(root, 0n);
  expect(() => expectNoLeaks(its.engine)).toThrow(/counts 2 entries, has 1/);
  its.store16(liveOf(0x8000_0000n), 1);
  expect(() => expectNoLeaks(its.engine)).toThrow(/counted as used/);
  its.store32(its.engine.address + ENGINE_FRAMES_USED, 3);
  expect(() => expectNoLeaks(its.engine)).toThrow(/is lost/);
});

it("sees a frame that is in use and free", () => {
  its.store32(its.engine.address + ENGINE_FRAME_FREE, frameOf(0x1_0000n) + 1);
  expect(() => expectNoLeaks(its.engine)).toThrow(/table of domain 0 .* and free/);
});

it("sees one table in two places", () => {
  const root = Number(its.engine.walk(its.domain, 0n, 0).steps[0]!.address);
  its.store64(root + 8, its.load64(root));
  expect(() => expectNoLeaks(its.engine)).toThrow(/frame \d+ is the level 1 table .* and the level 1 table/);
});
