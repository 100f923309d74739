// The list of formats. An operation is a class with one generic method; `dispatch` runs it for the domain's format.
// A new format is one line here and its number in layout.ts. Imports layout and the formats.
import { Granule16K, Granule4K, Granule64K } from "./aarch64";
import { AArch64Stage1 } from "./aarch64-stage1";
import { AArch64Stage2 } from "./aarch64-stage2";
import { AmdV1 } from "./amd-v1";
import { Format } from "./format";
import { Mock } from "./mock";
import { VtdSecond } from "./vtd-second";
import { X86 } from "./x86-64";

/** What can be done to a domain whose format is known at run time only; what a to d mean is the operation's own affair. */
@unmanaged
export class Operation {
  run<F extends Format>(_engine: usize, _domain: usize, _a: u64, _b: u64, _c: u64, _d: u32): u64 { return 0; }
}

export function dispatch<O extends Operation>(
  format: u32, engine: usize, domain: usize, a: u64, b: u64, c: u64, d: u32,
): u64 {
  const operation = changetype<O>(0);
  switch (format) {
    case 0: return operation.run<VtdSecond>(engine, domain, a, b, c, d);
    case 1: return operation.run<AmdV1>(engine, domain, a, b, c, d);
    case 2: return operation.run<X86>(engine, domain, a, b, c, d);
    case 3: return operation.run<AArch64Stage1<Granule4K>>(engine, domain, a, b, c, d);
    case 4: return operation.run<AArch64Stage1<Granule16K>>(engine, domain, a, b, c, d);
    case 5: return operation.run<AArch64Stage1<Granule64K>>(engine, domain, a, b, c, d);
    case 6: return operation.run<AArch64Stage2<Granule4K>>(engine, domain, a, b, c, d);
    case 7: return operation.run<AArch64Stage2<Granule16K>>(engine, domain, a, b, c, d);
    case 8: return operation.run<AArch64Stage2<Granule64K>>(engine, domain, a, b, c, d);
    case 9: return operation.run<Mock>(engine, domain, a, b, c, d);
  }
  return 0;
}
