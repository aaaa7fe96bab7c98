/** Block ids in reuse order: a doubly linked list over typed arrays, so that removal from the middle is O(1). */
export class FreeList {
  private readonly next: Int32Array;
  private readonly prev: Int32Array;
  private count: number;

  private constructor(next: Int32Array, prev: Int32Array, count: number) {
    this.next = next;
    this.prev = prev;
    this.count = count;
  }

  /** A list over block ids 0 .. numBlocks - 1 that holds `ids` in this order. */
  static of(numBlocks: number, ids: Iterable<number>): FreeList {
    // The last slot is the sentinel that closes the ring; -1 marks a block that is not in the list.
    const list = new FreeList(new Int32Array(numBlocks + 1).fill(-1), new Int32Array(numBlocks + 1).fill(-1), 0);
    list.next[numBlocks] = numBlocks;
    list.prev[numBlocks] = numBlocks;
    for (const id of ids) list.pushBack(id);
    return list;
  }

  get size(): number {
    return this.count;
  }

  has(id: number): boolean {
    return this.next[id] !== -1;
  }

  pushBack(id: number): void {
    const end = this.next.length - 1;
    this.insert(id, this.prev[end]!, end);
  }

  pushFront(id: number): void {
    const end = this.next.length - 1;
    this.insert(id, end, this.next[end]!);
  }

  remove(id: number): void {
    if (!this.has(id)) throw new Error(`block ${id} is not free`);
    const before = this.prev[id]!;
    const after = this.next[id]!;
    this.next[before] = after;
    this.prev[after] = before;
    this.next[id] = -1;
    this.prev[id] = -1;
    this.count -= 1;
  }

  /** Put a block that is not in the list in the place of one that is. */
  replace(id: number, by: number): void {
    const before = this.prev[id]!;
    this.remove(id);
    this.insert(by, before, this.next[before]!);
  }

  *[Symbol.iterator](): Generator<number> {
    const end = this.next.length - 1;
    for (let id = this.next[end]!; id !== end; id = this.next[id]!) yield id;
  }

  /** Write each id's place in the list; others are left as they are. No generator, as lists may hold a million. */
  ranks(into: Int32Array): void {
    const end = this.next.length - 1;
    let rank = 0;
    for (let id = this.next[end]!; id !== end; id = this.next[id]!) into[id] = rank++;
  }

  clone(): FreeList {
    return new FreeList(this.next.slice(), this.prev.slice(), this.count);
  }

  private insert(id: number, before: number, after: number): void {
    if (this.has(id)) throw new Error(`block ${id} is free already`);
    this.next[before] = id;
    this.prev[id] = before;
    this.next[id] = after;
    this.prev[after] = id;
    this.count += 1;
  }
}
