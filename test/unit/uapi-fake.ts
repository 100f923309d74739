// A machine whose IOMMUs keep pages in a Map and refuse on demand: for refusals of the layers below that a real
// engine gives only when it is full or misused. Ranges are inclusive, first..last.
import { expect } from "vitest";
import { EngineError, type EngineErrorCode } from "../../src/engine/errors.js";
import { Steps } from "../../src/engine/steps.js";
import type { MapStatus, Piece } from "../../src/iommu/domain.js";
import type { IommuModel } from "../../src/iommu/model.js";
import { IoctlError, type ErrnoName } from "../../src/uapi/errno.js";
import { DEVICE_KINDS } from "../../src/uapi/device-kind.js";
import { Host, type HostParts } from "../../src/uapi/host.js";
import type { OpenFile } from "../../src/uapi/open-file.js";

type Slots = Map<bigint, { last: bigint; kind: string }>;

/** What the next calls answer; undefined lets them pass. */
export interface Refusals {
  create?: EngineErrorCode;
  map?: MapStatus;
  attach?: "no-route";
  addSlot?: EngineErrorCode;
  section?: boolean;
}

export class FakeDomain {
  /** hpa and permission of each 4-KiB page, by iova. */
  readonly pages = new Map<bigint, { hpa: bigint; perm: number }>();
  readonly rids = new Set<number>();

  constructor(readonly iommu: FakeIommu) {}

  get inSection(): boolean {
    return this.iommu.refuse.section ?? false;
  }

  map(pieces: readonly Piece[]): MapStatus {
    if (this.inSection) return "in-section";
    if (this.iommu.refuse.map !== undefined) return this.iommu.refuse.map;
    for (const { iova, hpa, size, perm } of pieces) {
      for (let at = 0n; at < size; at += 4096n) {
        expect(this.pages.has(iova + at)).toBe(false);
        this.pages.set(iova + at, { hpa: hpa + at, perm });
      }
    }
    return "ok";
  }

  plan(pieces: readonly Piece[]): { status: MapStatus; tables: number } {
    return { status: pieces.length > 0 && this.iommu.refuse.map !== undefined ? this.iommu.refuse.map : "ok", tables: 0 };
  }

  canTake(): boolean {
    return true;
  }

  unmapMany(ranges: readonly { iova: bigint; size: bigint }[]): bigint | "in-section" {
    if (this.inSection) return "in-section";
    return ranges.reduce((sum, { iova, size }) => sum + (this.unmap(iova, size) as bigint), 0n);
  }

  unmap(iova: bigint, size: bigint): bigint | "in-section" {
    if (this.inSection) return "in-section";
    let removed = 0n;
    for (const at of [...this.pages.keys()]) if (at >= iova && at < iova + size && this.pages.delete(at)) removed += 4096n;
    return removed;
  }

  /** A rid that went elsewhere is moved. Only a reserved one can come. */
  attach(rid: number): "ok" | "in-section" {
    if (this.inSection) return "in-section";
    expect(this.iommu.reserved.has(rid)).toBe(true);
    for (const other of this.iommu.domains) other.rids.delete(rid);
    this.rids.add(rid);
    return "ok";
  }

  detach(rid: number): "ok" | "in-section" {
    if (this.inSection) return "in-section";
    expect(this.rids.delete(rid)).toBe(true);
    return "ok";
  }

  destroy(): void {
    expect(this.inSection).toBe(false);
    expect(this.rids.size).toBe(0);
    expect(this.iommu.domains.delete(this)).toBe(true);
  }
}

export class FakeIommu {
  readonly domains = new Set<FakeDomain>();

  /** @param reserved rids that have a route: one engine serves all IOMMUs. */
  constructor(readonly name: string, readonly model: IommuModel, readonly refuse: Refusals, readonly reserved: Set<number>, readonly steps: Steps) {}

  get engine(): { inSection: boolean; steps: Steps } {
    return { inSection: this.refuse.section ?? false, steps: this.steps };
  }

  reserveRoute(rid: number): boolean {
    if (this.refuse.attach !== undefined) return false;
    this.reserved.add(rid);
    return true;
  }

  createDomain(): FakeDomain {
    if (this.refuse.create !== undefined) throw new EngineError(this.refuse.create, "refused on demand");
    const domain = new FakeDomain(this);
    this.domains.add(domain);
    return domain;
  }
}

/** A 48-bit IOMMU with 4-KiB pages; `changes` replaces properties. */
export function fakeModel(changes: Partial<IommuModel> = {}): IommuModel {
  const base = {
    kind: "vtd", preset: "vtd", stage: 2, format: 0, formatName: "fake", levels: 4, inputWidth: 48, rule: "zero", addressWidth: 48, outputWidth: 46,
    pageSizes: 0x40201000n, granule: 4096, reserved: [], writeOnly: true, nesting: { software: true, hardware: [] }, pasidBits: 0,
    pasidTable: null, pageRequests: false, dirtyTracking: false,
  } as const;
  return { ...base, ...changes };
}

export interface Machine {
  host: Host;
  iommus: FakeIommu[];
  refuse: Refusals;
  slots: Slots;
}

/** `models[i]` is IOMMU `iommu<i>`; device `dev<n>` (from 1) has rid 8n and is behind the IOMMU `behind[n - 1]`. */
export function fakeMachine(options: Partial<HostParts> & { models?: IommuModel[]; behind?: number[] } = {}): Machine {
  const { models = [fakeModel()], behind = [0, 0], ...parts } = options;
  const refuse: Refusals = {};
  const slots: Slots = new Map();
  const steps = new Steps();
  const engine = {
    steps,
    get inSection() { return refuse.section ?? false; },
    get held() { return steps.stall !== undefined; },
    finish() { steps.finish(); },
    memory: new WebAssembly.Memory({ initial: 32 }),
    addSlot(first: bigint, last: bigint, kind: string): void {
      if (refuse.addSlot !== undefined) throw new EngineError(refuse.addSlot, "refused on demand");
      slots.set(first, { last, kind });
    },
    removeSlot: (first: bigint) => slots.delete(first),
  };
  const reserved = new Set<number>();
  const iommus = models.map((model, i) => new FakeIommu(`iommu${i}`, model, refuse, reserved, steps));
  const host = new Host({
    engine: engine as unknown as HostParts["engine"],
    iommus: new Map(iommus.map((iommu) => [iommu.name, iommu])) as unknown as HostParts["iommus"],
    devices: behind.map((iommu, i) => ({
      name: `dev${i + 1}`, rid: 8 * (i + 1), iommu: `iommu${iommu}`, group: i + 1, kind: DEVICE_KINDS[0]!, parent: undefined, pageRequests: false,
    })),
    ram: [{ hpa: 0x100000n, size: 0x100000n, offset: 0x80000 }],
    lockLimit: 2n ** 64n - 1n,
    strictAttach: false,
    accounting: "ioasid",
    faults: {
      queue: { head: 0, take: () => undefined, takeDropped: () => 0, waitBeyond: () => Promise.resolve() }, stalls: { answer: () => false }, depth: 32,
      shared: false, inSection: () => false,
    },
    ...parts,
  });
  return { host, iommus, refuse, slots };
}

/** `ioctl()` with anything for a request and an argument. */
export function ioctlAny(file: OpenFile, request: unknown, arg?: unknown): unknown {
  return (file.ioctl as (this: OpenFile, request: unknown, arg?: unknown) => unknown).call(file, request, arg);
}

/** The error that the call throws; a test failure when it throws none, or another one. */
export function refusal(call: () => unknown, errno: ErrnoName, field?: string): IoctlError {
  let thrown: unknown;
  try {
    call();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(IoctlError);
  const error = thrown as IoctlError;
  expect(error.message).toContain(`${errno} (`);
  expect(error.field).toBe(field);
  return error;
}
