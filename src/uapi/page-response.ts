// IOASID_PAGE_RESPONSE and IOASID_PAGE_RESPONSE_RANGE: the answers to page requests. May import arguments.ts, errno.ts,
// fault-dispatch.ts, fault-inbox.ts, ioasid.ts (types), pasid-argument.ts, pasid-errors.ts, requests.ts. RFC section 5.6; that one answer completes one group of one
// device, and a call of its own all of a range, is this project's reading of the review.

import { show, takeLast, takePages, takeU32, takeU64 } from "./arguments.js";
import { IoctlError } from "./errno.js";
import type { FaultDispatch } from "./fault-dispatch.js";
import type { FaultInbox } from "./fault-inbox.js";
import type { Ioasid } from "./ioasid.js";
import { takePasid } from "./pasid-argument.js";
import { badPasid } from "./pasid-errors.js";
import {
  type Call, IOASID_PAGE_RESPONSE, IOASID_PAGE_RESPONSE_FAILURE, IOASID_PAGE_RESPONSE_RANGE, type PageResponse, type PageResponseRange,
  REQUESTS,
} from "./requests.js";

const RESPOND = REQUESTS[IOASID_PAGE_RESPONSE];
const RESPOND_RANGE = REQUESTS[IOASID_PAGE_RESPONSE_RANGE];

function takeCode(call: Call, value: number): number {
  const code = takeU32(call, "code", value);
  if (code <= IOASID_PAGE_RESPONSE_FAILURE) return code;
  const details = { field: "code", value: code, hint: "it is SUCCESS (0), INVALID (1) or FAILURE (2)" };
  throw new IoctlError("EINVAL", call.name, `code ${code} is none`, details);
}

/** Completes one group. @throws IoctlError EINVAL (code, cookie), ENOENT (no such group waits here). */
export function respond(inbox: FaultInbox, dispatch: FaultDispatch, { cookie, code }: PageResponse): void {
  const wanted = takeCode(RESPOND, code);
  const number = Number(takeU64(RESPOND, "cookie", cookie));
  if (!inbox.answer(number, wanted)) throw notPending(dispatch, number);
}

function notPending(dispatch: FaultDispatch, cookie: number): IoctlError {
  const hint = dispatch.isPending(cookie) ? "it was given to another ioasid fd: answer there"
    : dispatch.hasGiven(cookie) ? "it has been answered, by a call, or because of a detach, an unbind or a close"
    : "cookies come with the requests of the fault queue";
  return new IoctlError("ENOENT", RESPOND.name, `no page request with cookie ${show(cookie)} waits for an answer on this fd`, { field: "cookie", value: cookie, hint });
}

/** A PASID that no device of the space can carry has not asked for anything. @throws IoctlError EINVAL. */
function requireSomeCarries({ devices }: Ioasid, pasid: number): void {
  const last = Math.max(...[...devices].map(({ iommu: { model } }) => 2 ** model.pasidBits - 1));
  if (devices.size > 0 && pasid > last) throw badPasid(RESPOND_RANGE, "pasid", pasid, last);
}

/**
 * Completes every group of the space with a page in the range, and with the PASID if one is given.
 * @throws IoctlError EINVAL (code, misaligned, empty, PASID), EOVERFLOW.
 */
export function respondRange(inbox: FaultInbox, space: Ioasid, { iova, size, code, pasid }: PageResponseRange): number {
  const wanted = takeCode(RESPOND_RANGE, code);
  const first = takePages(RESPOND_RANGE, "iova", iova);
  const last = takeLast(RESPOND_RANGE, "iova", first, takePages(RESPOND_RANGE, "size", size));
  const vpasid = pasid === undefined ? undefined : takePasid(RESPOND_RANGE, "pasid", pasid);
  if (vpasid !== undefined) requireSomeCarries(space, vpasid);
  const inside = (address: bigint): boolean => Number(address >> 12n) >= first && Number(address >> 12n) <= last;
  return inbox.answerAll((group) =>
    group.space === space && (vpasid === undefined || group.vpasid === vpasid) && group.pages.some((page) => inside(page.iova)), wanted);
}
