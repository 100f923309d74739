// In a real Chromium: a host in a worker, two readers in workers of its own, one shared memory; and a page, which may not wait.
import { expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.js";

it("the page is isolated, so that memory can be shared", () => {
  expect(globalThis.crossOriginIsolated).toBe(true);
});

it("two workers translate while the host unmaps: no use of what was unmapped", async () => {
  const host = new Worker(new URL("./host-worker.ts", import.meta.url), { type: "module" });
  const result = await new Promise<{ error?: string; uses: number[]; stale: number; limbo: number }>((resolve, reject) => {
    host.onmessage = ({ data }) => resolve(data);
    host.onerror = ({ message }) => reject(new Error(message));
    host.postMessage(5000);
  });
  host.terminate();
  expect(result.error).toBeUndefined();
  expect(result.stale).toBe(0);
  expect(result.limbo).toBe(0);
  for (const uses of result.uses) expect(uses).toBeGreaterThan(0);
});

it("a host on the page's main thread has an engine in shared memory, but no ports on other threads, and says why", async () => {
  const engine = await Engine.create({ memory: { ram: 1 << 16, arena: 4 << 20, shared: true }, ports: { count: 2, iotlbSets: 64, lanes: 256, faults: 64 } });
  const domain = engine.createDomain({ format: 0, levels: 4, width: 48, outputWidth: 52 });
  expect(engine.map(domain, 0n, 0xfffn, 0n, 3)).toBe(0);
  expect(engine.unmap(domain, 0n, 0xfffn)).toBe(0x1000n);
  expect(() => engine.token()).toThrow(expect.objectContaining({ code: "NO_THREADS", message: expect.stringContaining("make the host in a worker") }));
});
