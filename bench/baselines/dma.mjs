// DMA as one writes it by hand: a Map from page number to the page's place in memory, and a loop that copies page by page.

const PAGE = 4096;
const READABLE = 1;

/** `pages` is a Map from page number to { offset, perm }; answers read(iova, into), which throws for a page without permission. */
export function mapReader(memory, pages) {
  return (iova, into) => {
    for (let done = 0; done < into.length; ) {
      const at = iova + done;
      const page = pages.get(Math.floor(at / PAGE));
      if (page === undefined || !(page.perm & READABLE)) throw new Error(`read of 0x${at.toString(16)} refused`);
      const inside = at % PAGE;
      const n = Math.min(PAGE - inside, into.length - done);
      into.set(memory.subarray(page.offset + inside, page.offset + inside + n), done);
      done += n;
    }
    return into;
  };
}
