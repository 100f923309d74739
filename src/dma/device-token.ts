// A device on another thread than the host's: from a token that can be posted there, views of its own through a port of its own.
// Imports engine, dma-view, page-requests.
import type { EngineAccess } from "../engine/access.js";
import type { Port } from "../engine/port.js";
import { DmaView } from "./dma-view.js";
import type { PageWait } from "./page-requests.js";

/** What a thread has to know of a device; can be posted. Label and cookie are those of when it was made. */
export interface DeviceToken {
  readonly name: string;
  readonly rid: number;
  /** What its requests carry beside the requester id, and what the user calls it; undefined: no PASID. */
  readonly pasid: number | undefined;
  readonly vpasid: number | undefined;
  readonly label: number | undefined;
  readonly cookie: bigint | undefined;
  /** It can ask for pages. */
  readonly pageRequests: boolean;
}

/** A device as a device model on this thread sees it. */
export interface ConnectedDevice {
  readonly name: string;
  readonly rid: number;
  /** The port of its views, this thread's. */
  readonly port: Port;
  /** Its route, for requests through the port. */
  readonly route: number;
  /** A view of memory through the IOMMU, for DMA with the token's PASID. Throws EngineError BAD_ARGUMENT. */
  dma(wait?: PageWait): DmaView;
}

/**
 * The device of a token on this thread. Without a port one is opened; devices of one thread may share theirs.
 * Throws EngineError NO_PORTS.
 */
export function connectDevice(engine: EngineAccess, token: DeviceToken, port: Port = engine.openPort()): ConnectedDevice {
  const { name, rid, pasid, vpasid, label, cookie, pageRequests } = token;
  const binding = () => (label === undefined ? undefined : { label, cookie });
  const route = engine.route(rid, pasid);
  // The host hears of reports by itself.
  const requester = { name, binding, route: () => route, pasid: () => vpasid, pageRequests, reported: () => undefined };
  return { name, rid, port, route, dma: (wait) => new DmaView(engine, port, requester, wait) };
}
