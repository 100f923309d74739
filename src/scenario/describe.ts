// A step as the RFC writes it. Imports the format's types only.
import type { Content, DmaStep, Json, MmapStep, Step, TranslateStep, Value } from "./scenario.js";

/** Bytes that are written out. */
const MOST_SHOWN = 32;

/** A value as C writes it: names without their $, structures with designated initializers. */
function written(value: Json | undefined): string {
  if (typeof value === "string") return /^(\$|0x)/.test(value) ? value.replace("$", "") : JSON.stringify(value);
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return `{ ${value.map(written).join(", ")} }`;
  const fields = Object.entries(value).map(([field, each]) => `.${field} = ${written(each as Json)}`);
  return fields.length ? `{ ${fields.join(", ")} }` : "{}";
}

/** Bytes as they are written in the file; long ones by their length. */
function contentText(content: Content): string {
  if ("fill" in content) return `${bytes(Number(content.length))} of ${content.fill}`;
  if (lengthOf(content) > MOST_SHOWN) return bytes(lengthOf(content));
  return "bytes" in content ? content.bytes : content.words.map(String).join(" ");
}

function lengthOf(content: Content): number {
  if ("bytes" in content) return content.bytes.replaceAll(" ", "").length / 2;
  return "words" in content ? content.words.length * 8 : Number(content.length);
}

export const isContent = (value: object): value is Content => ["bytes", "words", "fill"].some((key) => key in value);

/** Bytes that a DMA reads: what is said, else as many as are expected, else one. */
export function readLength({ length, expect }: { readonly length?: Value; readonly expect?: object }): number {
  if (length !== undefined) return Number(length);
  return expect && isContent(expect) ? lengthOf(expect) : 1;
}

const bytes = (n: number): string => (n === 1 ? "1 byte" : `${n} bytes`);

function mmapText({ mmap: { hva, size, prot = "rw", backing = "ram" } }: MmapStep): string {
  return `mmap(${written(hva)}, ${written(size)}, ${prot}, ${typeof backing === "object" ? `device ${written(backing.device)}` : backing})`;
}

function requesterText({ pasid, work }: DmaStep | TranslateStep): string {
  if (work !== undefined) return ` for ${written(work)}`;
  return pasid === undefined ? "" : ` with PASID ${written(pasid)}`;
}

function callText(step: Step): string {
  if ("open" in step) return `open(${JSON.stringify(step.open)})`;
  if ("ioctl" in step) return `ioctl(${written(step.fd)}, ${step.ioctl}${step.arg === undefined ? "" : `, ${written(step.arg)}`})`;
  if ("close" in step) return `close(${written(step.close)})`;
  if ("mmap" in step) return mmapText(step);
  if ("munmap" in step) return `munmap(${written(step.munmap.hva)}, ${written(step.munmap.size)})`;
  if ("put" in step) return step.put.map((put) => `memory[${written(put.at)}] = ${contentText(put)}`).join("; ");
  if ("get" in step) return `memory[${written(step.get)}]`;
  if ("charge" in step) return step.charge === "process" ? "charge of the process" : `charge of ${written(step.charge)}`;
  if ("wait" in step) return `wait for ${written(step.wait)}`;
  if ("fault" in step) return `next fault of ${written(step.fault)}`;
  if ("enqcmd" in step) return `enqcmd(${written(step.vm)}, ${step.enqcmd}, ${written(step.pasid)}, ${contentText(step.descriptor)})`;
  const way = "read" in step ? "reads" : "writes";
  const iova = written("read" in step ? step.read : step.write);
  const pasid = requesterText(step);
  if ("translate" in step) return `${step.translate}: where it ${way} ${iova}${pasid}`;
  if ("read" in step) return `${step.dma} reads ${bytes(readLength(step))} at ${iova}${pasid}`;
  return `${step.dma} writes ${contentText(step)} at ${iova}${pasid}`;
}

/** The step on one line. */
export function describeStep(step: Step): string {
  const { as = "pending" in step ? step.pending : undefined } = step as { readonly as?: string };
  return as === undefined ? callText(step) : `${as} = ${callText(step)}`;
}
