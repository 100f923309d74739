// Loads the engine's code: one binary for shared memory, one for unshared. Works in Node, browsers, workers and bundlers.
// Imports nothing.

/** The exports of assembly/index.ts. u64 arguments are bigint; u32 results arrive signed. */
export interface EngineExports {
  createEngine(engine: number, length: number, slots: number, routesLg2: number, domains: number, ports: number,
    portSetsLg2: number, portLanes: number, portFaults: number, firstId: number, records: number, stalls: number, pasidTables: number): number;
  addSlot(engine: number, first: bigint, last: bigint, offset: number, kind: number): number;
  removeSlot(engine: number, first: bigint): number;
  slotAt(engine: number, hpaLow: number, hpaHigh: number): number;
  inSection(engine: number): number;
  waitAgain(engine: number): number;
  internRoute(engine: number, rid: number, pasid: number): number;
  blockRoute(engine: number, route: number): number;
  identityRoute(engine: number, route: number): number;
  attachRoute(engine: number, route: number, domain: number): number;
  createDomain(engine: number, format: number, levels: number, rule: number, widthLg2: number, outputLg2: number,
    flags: number, root: bigint, reservedTable: bigint, reservedLeaf: bigint, stage2: number, upper: number): number;
  createPasidTable(engine: number, kind: number, root: bigint, bits: number, layout: number, without: number, stage2: number,
    outputLg2: number, flags: number, cache: number): number;
  destroyPasidTable(engine: number, table: number): number;
  attachPasidTable(engine: number, route: number, table: number): number;
  dropPasids(engine: number, table: number, pasid: number): number;
  invalidatePasid(engine: number, table: number, pasid: number, first: bigint, last: bigint, whole: number): number;
  destroyDomain(engine: number, domain: number): number;
  flushDomain(engine: number, domain: number): number;
  invalidateDomain(engine: number, domain: number, first: bigint, last: bigint): number;
  map(engine: number, domain: number, first: bigint, last: bigint, hpa: bigint, perm: number, cap: number): number;
  merge(engine: number, child: number, parent: number, first: bigint, last: bigint, gpa: bigint, perm: number): number;
  mergeMany(engine: number, child: number, parent: number, n: number): number;
  planMerge(engine: number, child: number, parent: number, n: number, fresh: number): bigint;
  putMerge(engine: number, child: number, parent: number, n: number): void;
  leafRuns(engine: number, domain: number, first: bigint, last: bigint): bigint;
  trackDirty(engine: number, domain: number, on: number): number;
  canTakeTables(engine: number, domain: number, tables: number): number;
  unmap(engine: number, domain: number, first: bigint, last: bigint): bigint;
  planMany(engine: number, domain: number, n: number, fresh: number): bigint;
  putMany(engine: number, domain: number, n: number): void;
  mapMany(engine: number, domain: number, n: number): number;
  checkUnmaps(engine: number, domain: number, n: number): bigint;
  unmapMany(engine: number, domain: number, n: number): bigint;
  walk(engine: number, domain: number, iova: bigint, need: number, out: number): number;
  collectDirty(engine: number, domain: number, first: bigint, last: bigint, clear: number): bigint;
  openPort(engine: number, thread: number): number;
  addThread(engine: number): number;
  endThread(engine: number, thread: number): number;
  closePort(port: number): void;
  enter(port: number): void;
  leave(port: number): void;
  portBytes(setsLg2: number, lanes: number, faults: number): number;
  translate(port: number, n: number): number;
  translateNumber(port: number, iova: number, route: number, need: number): number;
  translateHalves(port: number, iovaLow: number, iovaHigh: number, route: number, need: number): number;
}

interface NodeFs {
  readFileSync(url: URL): Uint8Array<ArrayBuffer>;
}
type MaybeNode = { process?: { getBuiltinModule?(name: string): unknown } };

const compiled = new Map<boolean, Promise<WebAssembly.Module>>();

async function compile(shared: boolean): Promise<WebAssembly.Module> {
  // Both URLs are literals, so that bundlers see the files.
  const url = shared ? new URL("./engine.shared.wasm", import.meta.url) : new URL("./engine.unshared.wasm", import.meta.url);
  if (url.protocol === "file:") {
    const fs = (globalThis as MaybeNode).process?.getBuiltinModule?.("node:fs") as NodeFs | undefined;
    if (fs) return WebAssembly.compile(fs.readFileSync(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`cannot load the engine from ${url.href}: HTTP ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

/** The engine's code for that kind of memory; compiled once. A failed load is tried again at the next call. */
export function loadModule(shared: boolean): Promise<WebAssembly.Module> {
  let module = compiled.get(shared);
  if (!module) {
    module = compile(shared);
    compiled.set(shared, module);
    module.catch(() => compiled.delete(shared));
  }
  return module;
}

export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): EngineExports {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as EngineExports;
}
