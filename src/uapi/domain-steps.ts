// What a call does to domains once nothing can be refused any more: steps of its change, which are put off when a port holds them up.
// May import iommu/ (types). Precondition of all: no section of this thread is open.

import type { Domain } from "../iommu/domain.js";

/** Several calls of the domain's engine as one step: it can be made again from its beginning. */
export function takeStep(domain: Domain, step: () => void): void {
  domain.iommu.engine.steps.take(step);
}

/** DMA of (rid, pasid), whose route is reserved, goes to the domain. */
export function lead(domain: Domain, rid: number, pasid?: number): void {
  takeStep(domain, () => requireOk(domain.attach(rid, pasid), rid, pasid));
}

/** DMA of (rid, pasid), which went to the domain, is blocked. */
export function block(domain: Domain, rid: number, pasid?: number): void {
  takeStep(domain, () => requireOk(domain.detach(rid, pasid), rid, pasid));
}

/** Gives back a domain that nothing leads to. */
export function discard(domain: Domain): void {
  takeStep(domain, () => void domain.destroy());
}

function requireOk(status: string, rid: number, pasid: number | undefined): void {
  if (status !== "ok") throw new Error(`the route of (${rid}, ${pasid}) was refused: ${status}`);
}
