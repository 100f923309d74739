// An index of intervals of 4-KiB page numbers that may overlap and may be equal: which areas lie over these pages.
// Imports nothing. Intervals are inclusive, first..last; a page number (address / 4096) is below 2^53, so it is exact here.
// A treap in the order of (first, last): priorities are pseudo-random and independent of the pages, so it is balanced whatever
// the order of changes, and its depth, which is that of the recursion, is a few times log2 of the size. Each node knows the
// highest last page of its subtree, and a search leaves out the subtrees that end too early.

export interface Interval<V> {
  readonly first: number;
  readonly last: number;
  readonly value: V;
}

interface Node<V> {
  readonly first: number;
  readonly last: number;
  /** What has just this interval, in the order of insertion, and how often. */
  readonly values: Map<V, number>;
  /** Higher than that of both children, or equal. */
  readonly priority: number;
  /** Highest `last` of this node and all below it. */
  max: number;
  left: Tree<V>;
  right: Tree<V>;
}

type Tree<V> = Node<V> | undefined;

/** Intervals with values. A change is O(log n); a search is O(log n), and for each interval found at most a path down the tree. */
export class IntervalIndex<V> {
  #root: Tree<V>;
  #size = 0;
  /** State of the sequence of priorities: the same changes make the same tree. */
  #seed = 1;

  /** Number of intervals, each counted as often as it was inserted. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds first..last with a value. The same interval may be there already, with the same value too: then it is there twice.
   * Throws RangeError, and changes nothing, when a bound is no page number (an integer 0..2^53 - 1) or first is above last.
   */
  insert(first: number, last: number, value: V): void {
    if (!(Number.isSafeInteger(first) && Number.isSafeInteger(last) && first >= 0 && first <= last)) {
      throw new RangeError(`IntervalIndex.insert: ${first}..${last} is not a range of pages`);
    }
    this.#size++;
    const values = this.#find(first, last)?.values;
    if (values !== undefined) {
      values.set(value, (values.get(value) ?? 0) + 1);
      return;
    }
    const priority = this.#nextPriority();
    this.#root = insert(this.#root, { first, last, values: new Map([[value, 1]]), priority, max: last, left: undefined, right: undefined });
  }

  /** Removes first..last with this value, once; false when it is not there. Values are equal as keys of a Map are. */
  remove(first: number, last: number, value: V): boolean {
    const values = this.#find(first, last)?.values;
    const count = values?.get(value);
    if (values === undefined || count === undefined) return false;
    this.#size--;
    if (count > 1) values.set(value, count - 1);
    else if (values.size > 1) values.delete(value);
    else this.#root = remove(this.#root!, first, last);
    return true;
  }

  /**
   * All intervals that share a page with first..last, ascending by first, then by last; the index may be changed while the
   * result is read. Throws RangeError when first is above last.
   */
  overlapping(first: number, last: number): Interval<V>[] {
    if (!(first <= last)) throw new RangeError(`IntervalIndex: first ${first} is above last ${last}`);
    const found: Interval<V>[] = [];
    collect(this.#root, first, last, found);
    return found;
  }

  clear(): void {
    this.#root = undefined;
    this.#size = 0;
  }

  #find(first: number, last: number): Tree<V> {
    let node = this.#root;
    while (node !== undefined && !(node.first === first && node.last === last)) node = isBefore(node, first, last) ? node.right : node.left;
    return node;
  }

  /** xorshift32: all 32-bit values but 0, in an order that has nothing to do with the pages. */
  #nextPriority(): number {
    this.#seed ^= this.#seed << 13;
    this.#seed ^= this.#seed >>> 17;
    this.#seed ^= this.#seed << 5;
    return this.#seed;
  }
}

function isBefore<V>(node: Node<V>, first: number, last: number): boolean {
  return node.first < first || (node.first === first && node.last < last);
}

/** Brings a node's `max` up to date with its children. */
function update<V>(node: Node<V>): Node<V> {
  node.max = Math.max(node.last, node.left?.max ?? 0, node.right?.max ?? 0);
  return node;
}

/** The tree with a node that is not in it. */
function insert<V>(tree: Tree<V>, fresh: Node<V>): Node<V> {
  if (tree === undefined) return fresh;
  if (fresh.priority > tree.priority) {
    [fresh.left, fresh.right] = split(tree, fresh);
    return update(fresh);
  }
  if (isBefore(tree, fresh.first, fresh.last)) tree.right = insert(tree.right, fresh);
  else tree.left = insert(tree.left, fresh);
  return update(tree);
}

/** What is before the node's interval, and what is after it. */
function split<V>(tree: Tree<V>, at: Node<V>): [Tree<V>, Tree<V>] {
  if (tree === undefined) return [undefined, undefined];
  if (isBefore(tree, at.first, at.last)) {
    const [before, after] = split(tree.right, at);
    tree.right = before;
    return [update(tree), after];
  }
  const [before, after] = split(tree.left, at);
  tree.left = after;
  return [before, update(tree)];
}

/** The tree without the node of first..last, which is in it. */
function remove<V>(tree: Node<V>, first: number, last: number): Tree<V> {
  if (tree.first === first && tree.last === last) return join(tree.left, tree.right);
  if (isBefore(tree, first, last)) tree.right = remove(tree.right!, first, last);
  else tree.left = remove(tree.left!, first, last);
  return update(tree);
}

/** One tree of two, of which the left one is all before the right one. */
function join<V>(left: Tree<V>, right: Tree<V>): Tree<V> {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority > right.priority) {
    left.right = join(left.right, right);
    return update(left);
  }
  right.left = join(left, right.left);
  return update(right);
}

/** Appends what shares a page with first..last, in order. */
function collect<V>(tree: Tree<V>, first: number, last: number, found: Interval<V>[]): void {
  if (tree === undefined || tree.max < first) return;
  collect(tree.left, first, last, found);
  if (tree.first > last) return;
  if (tree.last >= first) {
    for (const [value, count] of tree.values) {
      for (let i = 0; i < count; i++) found.push({ first: tree.first, last: tree.last, value });
    }
  }
  collect(tree.right, first, last, found);
}
