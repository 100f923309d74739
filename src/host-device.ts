// A device of the host, as a device model sees it. Imports engine, dma, uapi, and the host's type.
import type { SimulatedHost } from "./create-host.js";
import type { DeviceToken } from "./dma/device-token.js";
import { DmaView } from "./dma/dma-view.js";
import type { PageWait } from "./dma/page-requests.js";
import { EngineError } from "./engine/errors.js";
import { ROUTE_NONE } from "./engine/layout.js";
import type { Device, Requester } from "./uapi/device.js";
import { LAST_PASID } from "./uapi/pasid-argument.js";

function checkPasid(call: string, pasid: unknown): void {
  if (typeof pasid === "number" && Number.isInteger(pasid) && pasid >= 1 && pasid <= LAST_PASID) return;
  throw new EngineError("BAD_ARGUMENT", `${call} wants a PASID of 1..${LAST_PASID}, not ${String(pasid)}`, "pasid", pasid);
}

/** Whose DMA a view makes, and how it waits for pages. */
export interface DmaOptions extends PageWait {
  /** Default: DMA without a PASID. */
  readonly pasid?: number | undefined;
}

/** Takes a descriptor that ENQCMD brought, with a view for DMA with its PASID; false when there is no room (the guest retries). */
export type EnqcmdHandler = (descriptor: Uint8Array, dma: DmaView) => boolean;

export class HostDevice {
  readonly name: string;
  /** Requester id of its DMA. */
  readonly rid: number;
  readonly #host: SimulatedHost;
  readonly #device: Device;

  /** @internal SimulatedHost.device() makes these. */
  constructor(host: SimulatedHost, device: Device) {
    this.name = device.name;
    this.rid = device.rid;
    this.#host = host;
    this.#device = device;
  }

  /**
   * A view of memory through the IOMMU, for DMA without a PASID, or with the PASID that the guest's driver named. What a mediated
   * device puts in its place is looked up at every access. Throws EngineError BAD_ARGUMENT for a PASID that is not in 1..2^20-1.
   */
  dma(options?: number | DmaOptions): DmaView {
    const { pasid, ...wait } = typeof options === "object" && options !== null ? options : { pasid: options };
    if (pasid === undefined) return this.#view(undefined, this.#fixed(this.#device.requester), wait);
    checkPasid("dma", pasid);
    if (this.#device.kind.identical) return this.#view(() => pasid, this.#fixed({ rid: this.rid, pasid }), wait);
    return this.#view(() => pasid, () => this.#routeOf(this.#device.requesterOf(pasid)), wait);
  }

  /**
   * The device for another thread (`connectDevice`), with the label, and what its requests with that PASID carry, as they are now.
   * Throws EngineError BAD_ARGUMENT for a PASID that is none, or that no space is attached to on a mediated device.
   */
  token(pasid?: number): DeviceToken {
    if (pasid !== undefined) checkPasid("token", pasid);
    const requester = pasid === undefined ? this.#device.requester : this.#device.requesterOf(pasid);
    if (requester === undefined) throw new EngineError("BAD_ARGUMENT", `no ioasid is attached to PASID ${pasid} of ${this.name}`, "pasid", pasid);
    const binding = this.#host.labelOf(this.name);
    return { name: this.name, ...requester, vpasid: pasid, label: binding?.label, cookie: binding?.cookie, pageRequests: this.#device.pageRequests };
  }

  /** Says what becomes of ENQCMD to this device; undefined: its portal is closed. Throws EngineError BAD_ARGUMENT if it has none. */
  onEnqcmd(handler: EnqcmdHandler | undefined): void {
    const device = this.#device;
    if (!device.kind.enqcmd) throw new EngineError("BAD_ARGUMENT", `${this.name} takes no ENQCMD (option \`enqcmd\`)`, "name", this.name);
    device.portal = handler && ((descriptor, ppasid) => handler(descriptor, this.#physicalView(ppasid)));
  }

  /** For DMA with a pPASID that came with work: faults tell the vPASID that stands for it. */
  #physicalView(ppasid: number): DmaView {
    const vpasid = (): number | undefined => {
      if (this.#device.kind.identical) return ppasid;
      for (const [pasid, attachment] of this.#device.pasids) if (attachment.ppasid === ppasid) return pasid;
      return undefined;
    };
    return this.#view(vpasid, this.#fixed({ rid: this.rid, pasid: ppasid }));
  }

  #view(pasid: (() => number | undefined) | undefined, route: () => number, wait: PageWait = {}): DmaView {
    const { name } = this;
    const { pageRequests } = this.#device;
    const binding = () => this.#host.labelOf(name);
    const reported = () => this.#host.drainFaults();
    const requester = { name, binding, route, pasid: pasid ?? (() => undefined), pageRequests, reported, written: this.#host.process.writes };
    return new DmaView(this.#host.engine, this.#host.port, requester, wait);
  }

  #fixed(requester: Requester): () => number {
    const route = this.#routeOf(requester);
    return () => route;
  }

  #routeOf(requester: Requester | undefined): number {
    return requester === undefined ? ROUTE_NONE : this.#host.engine.route(requester.rid, requester.pasid);
  }
}
