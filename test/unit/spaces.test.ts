// Several spaces per host: devices that move between them, many in one, and DMA that is blocked while a device is in none.
import { describe, expect, it } from "vitest";
import { childOf, HVA, K4, type Landing, spaces } from "./space-host.js";
import { refusal } from "./uapi-fake.js";

/** Roots, each with one page at 0 that is another page of RAM: the n-th (from 0) has page n. */
async function machine(roots: number, count = 2) {
  const it = await spaces({ count });
  const ioasids = Array.from({ length: roots }, () => it.fd.alloc());
  ioasids.forEach((ioasid, n) => it.map(ioasid, 0, HVA + BigInt(n) * K4));
  const attach = (device: number, ioasid: number) => it.devs[device - 1]!.attachIoasid({ ioasid });
  const detach = (device: number, ioasid: number) => it.devs[device - 1]!.detachIoasid({ ioasid });
  return { ...it, ioasids, attach, detach };
}

describe("a device", () => {
  it("has its DMA blocked before and after bind, from bind to the first attach, after detach and after unbind", async () => {
    const { host, fd, devs, ioasids, attach, detach, dma } = await machine(1);
    const seen: Landing[] = [dma(1, 0)];
    attach(1, ioasids[0]!);
    seen.push(dma(1, 0));
    detach(1, ioasids[0]!);
    seen.push(dma(1, 0));
    devs[0]!.unbindIoasidFd();
    seen.push(dma(1, 0));
    devs[0]!.bindIoasidFd({ ioasidFd: fd });
    seen.push(dma(1, 0));
    expect(seen).toEqual(["blocked", 0n, "blocked", "blocked", "blocked"]);
    expect(host.labelOf("dev1")).toMatchObject({ label: 3 });
  });

  it("sees one space whole or none, while it goes through many by detach and attach", async () => {
    const { ioasids, attach, detach, dma, map } = await machine(5);
    ioasids.forEach((ioasid, n) => map(ioasid, 0x100000n + BigInt(n) * K4, HVA + 0x100000n));
    let previous: number | undefined;
    for (const [step, ioasid] of [...ioasids, ...ioasids].entries()) {
      if (previous !== undefined) detach(1, previous);
      expect(dma(1, 0)).toBe("blocked");
      attach(1, ioasid);
      const n = BigInt(step % 5);
      expect(dma(1, 0)).toBe(n * K4);
      for (let other = 0n; other < 5n; other++) expect(dma(1, 0x100000n + other * K4)).toBe(other === n ? 0x100000n : "not-present");
      previous = ioasid;
    }
  });

  it("is attached to one root at a time: a second is EBUSY, and names the first", async () => {
    const { ioasids: [a, b], attach, dma } = await machine(2);
    attach(1, a!);
    const error = refusal(() => attach(1, b!), "EBUSY", "ioasid");
    expect(error).toMatchObject({ value: b, conflict: { kind: "ioasid", ioasid: a } });
    expect(refusal(() => attach(1, a!), "EBUSY", "ioasid")).toMatchObject({ value: a, conflict: { kind: "ioasid", ioasid: a } });
    expect(dma(1, 0)).toBe(0n);
  });

  it("goes from child to child only through their parent", async () => {
    const { ioasids: [root], attach, detach, dma, map, fd, ...it } = await machine(1);
    attach(1, root!);
    const [one, two] = [fd.createNesting({ parent: root! }), fd.createNesting({ parent: root! })];
    map(one, 0x5000, 0);
    map(two, 0x6000, 0);
    attach(1, one);
    expect(refusal(() => attach(1, two), "EBUSY", "ioasid")).toMatchObject({ value: two, conflict: { kind: "ioasid", ioasid: one } });
    detach(1, one);
    expect([dma(1, 0), dma(1, 0x5000)]).toEqual([0n, "not-present"]);
    attach(1, two);
    expect([dma(1, 0), dma(1, 0x5000), dma(1, 0x6000)]).toEqual(["not-present", "not-present", 0n]);
    expect(refusal(() => detach(1, one), "ENOENT", "ioasid").hint).toContain(`ioasid ${two}`);
    expect(it.devs[0]!.device.attached!.number).toBe(two);
  });

  it("cannot leave a parent before the child, nor be unbound; closing its fd does both", async () => {
    const it = await machine(1);
    const { ioasids: [root], attach, detach, dma, devs, info } = it;
    attach(1, root!);
    const child = childOf(it, root!, [1]);
    const grandchild = childOf(it, child, [1]);
    for (const above of [root!, child]) {
      expect(refusal(() => detach(1, above), "EBUSY", "ioasid").conflict).toEqual({ kind: "ioasid", ioasid: grandchild });
    }
    expect(refusal(() => devs[0]!.unbindIoasidFd(), "EBUSY", "ioasid").conflict).toEqual({ kind: "ioasid", ioasid: grandchild });
    devs[0]!.close();
    expect(dma(1, 0)).toBe("blocked");
    for (const ioasid of [root!, child, grandchild]) expect(info(ioasid).devices).toEqual([]);
  });
});

describe("a space", () => {
  it("serves many devices, each change seen by all of them, and none of it by those that have left", async () => {
    const count = 24;
    const { ioasids: [a, b], attach, detach, dma, map, unmap, info } = await machine(2, count);
    const all = Array.from({ length: count }, (_, n) => n + 1);
    for (const n of all) attach(n, a!);
    const landings = (iova: bigint) => new Set(all.map((n) => dma(n, iova, "w")));
    expect(landings(0n)).toEqual(new Set([0n]));
    map(a!, K4, HVA + 0x9000n);
    expect(landings(K4)).toEqual(new Set([0x9000n]));
    const even = all.filter((n) => n % 2 === 0);
    for (const n of even) {
      detach(n, a!);
      attach(n, b!);
    }
    expect(all.map((n) => dma(n, 0))).toEqual(all.map((n) => (n % 2 === 0 ? K4 : 0n)));
    unmap(a!, K4);
    expect(landings(K4)).toEqual(new Set(["not-present"]));
    expect(info(b!).devices).toEqual(even.map((n) => `dev${n}`));
  });

  it("keeps its maps while no device is there, gives back the table, and builds it for the next one", async () => {
    const { host, ioasids: [a], attach, detach, dma, map } = await machine(1);
    const frames = host.engine.framesUsed;
    attach(1, a!);
    map(a!, 0x10000, HVA + 0x10000n, 0x10000);
    detach(1, a!);
    expect(host.engine.framesUsed).toBe(frames);
    map(a!, 0x40000, HVA + 0x8000n);
    attach(2, a!);
    expect([dma(2, 0), dma(2, 0x10fff), dma(2, 0x40000), dma(1, 0)]).toEqual([0n, 0x10fffn, 0x8000n, "blocked"]);
  });

  it("of another fd is out of reach", async () => {
    const { host, devs, ioasids: [a] } = await machine(1);
    const other = host.open("/dev/ioasid");
    other.alloc();
    const foreign = other.alloc();
    refusal(() => devs[0]!.attachIoasid({ ioasid: foreign }), "ENOENT", "ioasid");
    refusal(() => other.createNesting({ parent: 7 }), "ENOENT", "parent");
    devs[0]!.attachIoasid({ ioasid: a! });
    refusal(() => devs[0]!.bindIoasidFd({ ioasidFd: other }), "EBUSY", "ioasidFd");
  });
});
