// What the stress test and its readers agree on. Two spaces have the same pages, in frames that change hands: the first word of a
// frame says whose page it is, 0 nobody's. Words of the shared array: stale uses, uses, 1 when the readers shall end, readers.

export const STALE = 0;
export const USES = 1;
export const ENDED = 2;
export const READERS = 3;
export const BATCH = 256;
export const PAGES = 256;
export const PAGE_LG2 = 12;
export const FRAME_LG2 = 12;
/** So many pages lie side by side under one leaf table; the next ones far away under another: all together span more than is dropped page by page. */
export const PAGES_A_TABLE = 16;
/** Every frame has an owner or none; twice as many as pages of both spaces, so that one is not given back to the same page at once. */
export const FRAMES = 2048;

export function pageIova(page) {
  return Math.floor(page / PAGES_A_TABLE) * 2 ** 26 + (page % PAGES_A_TABLE) * 2 ** PAGE_LG2;
}
