// What an ioasid may map, from the models of its IOMMUs.
import { describe, expect, it } from "vitest";
import { AddressLimits, NO_LIMITS } from "../../src/uapi/address-limits.js";
import { fakeModel } from "./uapi-fake.js";

const page = (address: number): number => address / 4096;

describe("address limits", () => {
  it("are the whole 64-bit space without an IOMMU", () => {
    expect(NO_LIMITS.permitted()).toEqual([{ first: 0n, last: 2n ** 64n - 1n }]);
    expect(NO_LIMITS.refusal(0, 2 ** 52 - 1)).toBeUndefined();
  });

  it("end at the width", () => {
    const limits = new AddressLimits([fakeModel({ addressWidth: 39 })]);
    expect(limits.refusal(0, 2 ** 27 - 1)).toBeUndefined();
    expect(limits.refusal(2 ** 27 - 1, 2 ** 27)).toContain("39 bits");
    expect(limits.permitted()).toEqual([{ first: 0n, last: 2n ** 39n - 1n }]);
  });

  it("leave out reserved ranges, whatever their order and overlap, and wherever in a page they begin or end", () => {
    const reserved = [
      { first: 0xfee00000n, last: 0xfeefffffn, why: "interrupts" },
      { first: 0x1800n, last: 0x2fffn, why: "a" },
      { first: 0x2000n, last: 0x3000n, why: "b" },
    ];
    const limits = new AddressLimits([fakeModel({ addressWidth: 32, reserved })]);
    expect(limits.permitted()).toEqual([
      { first: 0n, last: 0xfffn },
      { first: 0x4000n, last: 0xfedfffffn },
      { first: 0xfef00000n, last: 0xffffffffn },
    ]);
    expect(limits.refusal(page(0x1000), page(0x1000))).toContain("0x1000..0x2fff (a)");
    expect(limits.refusal(page(0x3000), page(0x4000))).toContain("(b)");
    expect(limits.refusal(0, 2 ** 20 - 1)).toContain("reserved");
    expect(limits.refusal(page(0x4000), page(0xfedff000))).toBeUndefined();
  });

  it("add up the reserved ranges of all IOMMUs, each once", () => {
    const a = { first: 0x1000n, last: 0x1fffn, why: "a" };
    const b = { first: 0n, last: 0xfffn, why: "b" };
    const limits = new AddressLimits([fakeModel({ reserved: [a] }), fakeModel({ reserved: [{ ...a }, b] })]);
    expect(limits.reserved).toEqual([b, a]);
  });

  it("want whole pages of the IOMMU", () => {
    const limits = new AddressLimits([fakeModel({ granule: 16384 })]);
    expect(limits.refusal(4, 7)).toBeUndefined();
    expect(limits.refusal(5, 7)).toContain("16384");
    expect(limits.refusal(4, 8)).toContain("16384");
    expect(limits.describe()).toContain("multiples of 16384");
  });
});
