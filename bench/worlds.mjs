// What the rows translate: engines with mapped domains and a full pool of random requests.
import { createHost, DmaFault, Engine } from "../dist/index.js";
import * as L from "../dist/engine/layout.js";
import { VTD } from "./formats.mjs";
import { randomBelow } from "./random.mjs";
import { RequestPool } from "./pool.mjs";

export const PAGE = 4096;
export const TABLE_PAGES = 512;
export const VTD_4_LEVEL = VTD.options;
const OUTPUT_PAGES = 2 ** 34;
/** 256 entries: a working set of 32768 pages misses 99 times in 100, and no set is written so often that its stores are waited for. */
export const NO_IOTLB = 64;
export const READ_WRITE = L.PERM_R | L.PERM_W;

export const MIB = 2 ** 20;

export function expectStatus(what, status) {
  if (status !== L.STATUS_OK) throw new Error(`${what} answered status ${status}`);
}

export function attach(engine, rid, domain) {
  const route = engine.route(rid);
  expectStatus("attachRoute", engine.attachRoute(route, domain));
  return route;
}

export function makeEngine({ ram = 0, tables, lanes, iotlbSets }) {
  // A frame costs 6 bytes beside its page, a lane 28; the rest (routes, domains, upper levels) is small.
  const arena = tables * (PAGE + 8) + lanes * 28 + iotlbSets * L.IOTLB_SET_BYTES + 8 * MIB;
  return Engine.create({
    memory: { ram, arena: Math.ceil(arena / PAGE) * PAGE, shared: true },
    ports: { count: 1, iotlbSets, lanes },
  });
}

/**
 * Pages that are all in the IOTLB at once: several domains, random 4-KiB pages of the 1 GiB below `top` in each, random
 * frames. A page that would be the fifth in its set, here or in a baseline's cache (`otherSet(route, iova)`, if there is one), is
 * replaced by another. Returns { engine, pool, pages: [{ route, iova, hpa, perm }] }.
 */
export async function hitWorld({ pages: count, top, iotlbSets, lanes, otherSet, domains: devices = 8 }) {
  const random = randomBelow(count);
  const engine = await makeEngine({ tables: devices * (TABLE_PAGES + 3), lanes, iotlbSets });
  const domains = Array.from({ length: devices }, (_, n) => {
    const index = engine.createDomain(VTD_4_LEVEL);
    const route = attach(engine, 8 + n, index);
    return { index, route, word: routeWord(engine, route, L.ROUTE_FIRST), seen: new Set() };
  });
  const fits = otherSet ? [new SetCount(), new SetCount()] : [new SetCount()];
  const pages = [];
  while (pages.length < count) {
    const { index, route, word, seen } = domains[random(devices)];
    const iova = top - PAGE * (1 + random(TABLE_PAGES * TABLE_PAGES));
    const sets = [setOf(word, iova, iotlbSets), otherSet?.(route, iova)];
    if (seen.has(iova) || !fits.every((fit, n) => fit.has(sets[n]))) continue;
    seen.add(iova);
    fits.forEach((fit, n) => fit.take(sets[n]));
    const hpa = ((random(2 ** 20) * (OUTPUT_PAGES / 2 ** 20) + pages.length) % OUTPUT_PAGES) * PAGE;
    expectStatus("map", engine.map(index, BigInt(iova), BigInt(iova + PAGE - 1), BigInt(hpa), READ_WRITE));
    pages.push({ route, iova, hpa, perm: READ_WRITE });
  }
  const pool = new RequestPool(engine, engine.openPort(), 0, lanes);
  for (let lane = 0; lane < lanes; lane++) {
    const page = pages[random(count)];
    pool.set(lane, page.iova + random(PAGE), page.route, 1 + random(READ_WRITE));
  }
  return { engine, pool, pages };
}

/** Ways taken per set. */
class SetCount {
  #taken = new Map();
  has(set) {
    return (this.#taken.get(set) ?? 0) < 4;
  }
  take(set) {
    this.#taken.set(set, (this.#taken.get(set) ?? 0) + 1);
  }
}

function routeWord(engine, route, offset) {
  return new DataView(engine.memory.buffer).getBigUint64(engine.word(L.ENGINE_ROUTES) + route * L.ROUTE_BYTES + offset, true);
}

/** The engine's own choice of a set, for addresses that its tags hold whole. */
function setOf(classWord, iova, sets) {
  const tag = (BigInt(iova) >> (classWord & 0x3fn)) | (classWord & ~0x3fn);
  return Number(BigInt.asUintN(64, tag * 0x9e3779b97f4a7c15n) >> BigInt(64 - Math.log2(sets)));
}

/** Full leaf tables: every page of a contiguous range, so that random pages touch all of them. */
export const WALK_BASE = 2 ** 38;
/** The frames are contiguous too, but one page off, so that no leaf is larger than a page. */
export const WALK_FRAMES = 2 ** 42;
const WALK_HPA = WALK_FRAMES + PAGE;

/** A domain of a format without mappings, with table memory for 1 GiB of pages. */
export async function emptyWorld({ options }) {
  const engine = await makeEngine({ tables: 1024, lanes: 1024, iotlbSets: NO_IOTLB });
  return { engine, domain: engine.createDomain(options) };
}

/**
 * A kernel-owned domain of a format (formats.mjs) whose leaf entries fill `bytes`, and an IOTLB that is too small to matter.
 * Returns { engine, domain, pool }: random addresses, each answer checked once against the arithmetic of the mapping.
 */
export async function formatWorld({ pageLg2, options }, { bytes, lanes }) {
  const page = 2 ** pageLg2;
  const size = (bytes / 8) * page;
  const engine = await makeEngine({ tables: (bytes / PAGE) * 1.01 + 256, lanes, iotlbSets: NO_IOTLB });
  const domain = engine.createDomain(options);
  const hpa = WALK_FRAMES + page;
  expectStatus("map", engine.map(domain, BigInt(WALK_BASE), BigInt(WALK_BASE + size - 1), BigInt(hpa), READ_WRITE));
  const pool = new RequestPool(engine, engine.openPort(), 0, lanes);
  const route = attach(engine, 8, domain);
  const random = randomBelow(bytes / 8);
  for (let lane = 0; lane < lanes; lane++) pool.set(lane, WALK_BASE + random(bytes / 8) * page + random(PAGE), route, 1 + random(READ_WRITE));
  pool.expectOffset(hpa - WALK_BASE);
  return { engine, domain, pool };
}

/**
 * A kernel-owned domain whose leaf tables fill leafTables * 4 KiB, and an IOTLB that is too small to matter, if not said otherwise. With `guest`
 * there is a second domain with the same translations, whose tables are in RAM behind one slot, and a pool for each.
 * Returns { engine, root (memory offset of the kernel's table), pools }; every pool asks the same.
 */
export async function walkWorld({ leafTables, lanes, guest = false, iotlbSets = NO_IOTLB }) {
  const ram = guest ? (leafTables + 3) * PAGE : 0;
  const engine = await makeEngine({ ram, tables: leafTables * 1.01 + 16, lanes: guest ? 2 * lanes : lanes, iotlbSets });
  const domain = engine.createDomain(VTD_4_LEVEL);
  const bytes = leafTables * TABLE_PAGES * PAGE;
  expectStatus("map", engine.map(domain, BigInt(WALK_BASE), BigInt(WALK_BASE + bytes - 1), BigInt(WALK_HPA), READ_WRITE));
  const routes = [attach(engine, 8, domain)];
  if (guest) routes.push(attach(engine, 9, guestDomain(engine, leafTables)));
  const port = engine.openPort();
  const pools = routes.map((route, n) => fillPool(new RequestPool(engine, port, n * lanes, lanes), route, leafTables));
  return { engine, root: rootOf(engine, domain), pools };
}

/**
 * A parent of 4-KiB VT-d pages whose leaf tables fill leafTables * 4 KiB, an empty child, and `lists` lists of `areas` areas of
 * `pages` pages each: the child's follow each other from `first` on, what they lead to lies anywhere. Returns { engine, parent, root
 * (memory offset of its table), child, first, scratch (the words where a list goes), lists: [{ words, n, pages, last }] }.
 */
export async function mergeWorld({ leafTables, pages, areas, lists: count }) {
  const engine = await makeEngine({ tables: leafTables * 1.01 + 128, lanes: 16, iotlbSets: NO_IOTLB });
  const [parent, child] = [engine.createDomain(VTD_4_LEVEL), engine.createDomain(VTD_4_LEVEL)];
  const bytes = leafTables * TABLE_PAGES * PAGE;
  expectStatus("map", engine.map(parent, BigInt(WALK_BASE), BigInt(WALK_BASE + bytes - 1), BigInt(WALK_HPA), READ_WRITE));
  const random = randomBelow(leafTables + pages);
  const lists = Array.from({ length: count }, () => {
    const view = new DataView(new ArrayBuffer(areas * L.AREA_BYTES));
    for (let n = 0; n < areas; n++) {
      const iova = BigInt(n * pages * PAGE);
      const at = n * L.AREA_BYTES;
      view.setBigUint64(at + L.AREA_FIRST, iova, true);
      view.setBigUint64(at + L.AREA_LAST, iova + BigInt(pages * PAGE - 1), true);
      view.setBigUint64(at + L.AREA_GPA, BigInt(WALK_BASE + random(leafTables * TABLE_PAGES - pages) * PAGE), true);
      view.setUint32(at + L.AREA_PERM, READ_WRITE, true);
    }
    return { words: new Uint32Array(view.buffer), n: areas, pages: areas * pages, last: BigInt(areas * pages * PAGE - 1) };
  });
  const scratch = new Uint32Array(engine.memory.buffer, engine.word(L.ENGINE_SCRATCH), L.SCRATCH_BYTES / 4);
  return { engine, parent, root: rootOf(engine, parent), child, first: 0n, scratch, lists };
}

function fillPool(pool, route, leafTables) {
  const random = randomBelow(leafTables);
  for (let lane = 0; lane < pool.lanes; lane++) {
    pool.set(lane, WALK_BASE + random(leafTables * TABLE_PAGES) * PAGE + random(PAGE), route, 1 + random(READ_WRITE));
  }
  return pool;
}

function rootOf(engine, domain) {
  return Number(new DataView(engine.memory.buffer).getBigUint64(
    engine.word(L.ENGINE_DOMAINS) + domain * L.DOMAIN_BYTES + L.DOMAIN_ROOT, true));
}

/** Writes the same table into RAM as a guest would: root, two upper tables, leaf tables; all RAM is one slot. */
function guestDomain(engine, leafTables) {
  const SLOT = 2n ** 32n;
  if (leafTables > TABLE_PAGES) throw new Error(`one level-1 table has no room for ${leafTables} leaf tables`);
  engine.addSlot(SLOT, SLOT + BigInt(engine.ram.length) - 1n, "memory", engine.ram.offset);
  const entries = new BigUint64Array(engine.memory.buffer, engine.ram.offset, engine.ram.length / 8);
  const write = (table, index, address) => { entries[table * TABLE_PAGES + index] = address | BigInt(READ_WRITE); };
  const tableAt = (table) => SLOT + BigInt(table * PAGE);
  const indexOf = (level) => Math.floor(WALK_BASE / 2 ** (12 + 9 * level)) % TABLE_PAGES;
  write(0, indexOf(3), tableAt(1));
  write(1, indexOf(2), tableAt(2));
  for (let leaf = 0; leaf < leafTables; leaf++) {
    write(2, indexOf(1) + leaf, tableAt(3 + leaf));
    for (let index = 0; index < TABLE_PAGES; index++) {
      write(3 + leaf, index, BigInt(WALK_HPA + (leaf * TABLE_PAGES + index) * PAGE));
    }
  }
  return engine.createDomain({ ...VTD_4_LEVEL, guestRoot: SLOT });
}

/**
 * Two spaces with a device: a parent of single-page maps, and a child that has as many single-page areas over them, in another
 * order. Returns { fd, areas, parent, child, behind(n), reached(n) }; each space has { ioasid, iovaOf(n), vaddrOf(n) } for its nth page, and `reached`
 * says whether the child's nth page, which is over the parent's page `behind(n)`, leads to its memory; it throws if it leads elsewhere.
 */
export async function nestedSpaces(areas) {
  // Prime to every count of areas that the rows have.
  const STEP = 617;
  const HVA = 2 ** 40;
  const CHILD = 2 ** 38;
  const host = await createHost({
    memory: { ram: 0, arena: 4 * MIB + Math.ceil(areas / TABLE_PAGES) * 4 * PAGE }, ports: { count: 1, iotlbSets: NO_IOTLB, lanes: 16 },
  });
  const { hpa } = host.process.mmap({ hva: BigInt(HVA), size: BigInt(areas * PAGE), backing: "zero" });
  const [fd, device] = [host.open("/dev/ioasid"), host.open("/dev/vfio/devices/dev1")];
  device.bindIoasidFd({ ioasidFd: fd });
  const address = (base, page) => BigInt(base + page * PAGE);
  const behind = (n) => (n * STEP) % areas;
  const parent = { ioasid: fd.alloc(), iovaOf: (n) => address(0, n), vaddrOf: (n) => address(HVA, n) };
  device.attachIoasid({ ioasid: parent.ioasid });
  const child = { ioasid: fd.createNesting({ parent: parent.ioasid }), iovaOf: (n) => address(CHILD, n), vaddrOf: (n) => address(0, behind(n)) };
  device.attachIoasid({ ioasid: child.ioasid });
  for (const { ioasid, iovaOf, vaddrOf } of [parent, child]) {
    for (let n = 0; n < areas; n++) fd.dmaMap({ ioasid, iova: iovaOf(n), vaddr: vaddrOf(n), size: BigInt(PAGE) });
  }
  const view = host.device("dev1").dma();
  const reached = (n) => {
    try {
      if (view.translate(child.iovaOf(n)) === hpa + address(0, behind(n))) return true;
    } catch (error) {
      if (error instanceof DmaFault) return false;
      throw error;
    }
    throw new Error(`page ${n} of the child leads elsewhere`);
  };
  return { fd, areas, parent, child, behind, reached };
}
