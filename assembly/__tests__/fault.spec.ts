// Which refusals a page could mend: the rule of page requests, for every reason that there is.
import * as Fault from "../fault";

/** All reasons that canRecover accepts, as bits; the ones after the last reason are asked too. */
function recoverable(): u64 {
  let reasons: u64 = 0;
  for (let reason: u32 = 0; reason < 64; reason++) if (Fault.canRecover(reason)) reasons |= <u64>1 << reason;
  return reasons;
}

describe("a page can mend", () => {
  test("a page that is not there, or whose accessed flag is clear", () => {
    expect(Fault.canRecover(Fault.REASON_NOT_PRESENT)).toBe(true);
    expect(Fault.canRecover(Fault.REASON_ACCESS_FLAG)).toBe(true);
  });
  test("a right that is denied: a copy may be made at the first write", () => {
    expect(Fault.canRecover(Fault.REASON_READ_DENIED)).toBe(true);
    expect(Fault.canRecover(Fault.REASON_WRITE_DENIED)).toBe(true);
    expect(Fault.canRecover(Fault.REASON_EXECUTE_DENIED)).toBe(true);
  });
  test("nothing that was refused before a table was read", () => {
    expect(Fault.canRecover(Fault.REASON_NONE)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_NO_ROUTE)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_BLOCKED)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_BAD_REQUEST)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_ADDRESS_WIDTH)).toBe(false);
  });
  test("no broken table", () => {
    expect(Fault.canRecover(Fault.REASON_RESERVED)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_TABLE_OUTSIDE)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_ADDRESS_SIZE)).toBe(false);
  });
  test("no PASID without tables", () => {
    expect(Fault.canRecover(Fault.REASON_PASID_NOT_PRESENT)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_PASID_INVALID)).toBe(false);
    expect(Fault.canRecover(Fault.REASON_PASID_RANGE)).toBe(false);
  });
  test("five reasons and no other number", () => {
    expect(recoverable()).toBe(0b1_0001_1110_0000);
  });
});
