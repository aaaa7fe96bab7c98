// The rule by which a state and a step's record give the next state; the same rule as the engine's own replay.

import { FreeList } from "./free_list.ts";
import type { BlockEvent, PoolShape, Snapshot, StepRecord } from "./generated.ts";

/** A request that is alive after a step. Its tokens are kept once, outside; a state only says how many there are. */
export interface LiveRequest {
  readonly id: string;
  readonly numPrompt: number;
  numOutput: number;
  numComputed: number;
  numPreemptions: number;
  /** Last step in which it computed something; -1 if none is known. */
  lastScheduled: number;
}

/** The engine's whole state after step `step`. */
export class EngineState {
  step: number;
  pool: PoolShape;
  readonly blockTables: Map<string, number[]>;
  refCounts: Int32Array;
  hashes: string[];
  free: FreeList;
  readonly requests: Map<string, LiveRequest>;
  waiting: string[];
  running: string[];
  /** Free blocks whose content can still be found by its hash. */
  numCachedFree: number;
  /** Whose tokens each block holds ("" if unknown or none), and at which place of that request's table. */
  contentOf: string[];
  contentIndex: Int32Array;
  /** Last step in which something happened to the block; -1 if none is known. */
  lastEvent: Int32Array;

  private constructor(fields: Omit<EngineState, "apply" | "clone" | "numBlocks" | "blockSize" | "numUsed">) {
    this.step = fields.step;
    this.pool = fields.pool;
    this.blockTables = fields.blockTables;
    this.refCounts = fields.refCounts;
    this.hashes = fields.hashes;
    this.free = fields.free;
    this.requests = fields.requests;
    this.waiting = fields.waiting;
    this.running = fields.running;
    this.numCachedFree = fields.numCachedFree;
    this.contentOf = fields.contentOf;
    this.contentIndex = fields.contentIndex;
    this.lastEvent = fields.lastEvent;
  }

  static fromSnapshot(snapshot: Snapshot): EngineState {
    const n = snapshot.pool.num_blocks;
    const contentOf = new Array<string>(n).fill("");
    const contentIndex = new Int32Array(n);
    const blockTables = new Map<string, number[]>();
    for (const [id, table] of Object.entries(snapshot.block_tables)) {
      blockTables.set(id, [...table]);
      table.forEach((block, index) => {
        contentOf[block] = id;
        contentIndex[block] = index;
      });
    }
    const requests = new Map<string, LiveRequest>();
    for (const [id, r] of Object.entries(snapshot.requests)) {
      requests.set(id, {
        id,
        numPrompt: r.prompt_token_ids.length,
        numOutput: r.output_token_ids.length,
        numComputed: r.num_computed_tokens,
        numPreemptions: r.num_preemptions,
        lastScheduled: -1,
      });
    }
    return new EngineState({
      step: snapshot.step,
      pool: snapshot.pool,
      blockTables,
      refCounts: Int32Array.from(snapshot.ref_counts),
      hashes: [...snapshot.block_hashes],
      free: FreeList.of(n, snapshot.free_blocks),
      requests,
      waiting: [...snapshot.waiting],
      running: [...snapshot.running],
      numCachedFree: snapshot.free_blocks.filter((block) => snapshot.block_hashes[block] !== "").length,
      contentOf,
      contentIndex,
      lastEvent: new Int32Array(n).fill(-1),
    });
  }

  get numBlocks(): number {
    return this.refCounts.length;
  }

  get blockSize(): number {
    return this.pool.block_size;
  }

  get numUsed(): number {
    return this.numBlocks - this.free.size;
  }

  clone(): EngineState {
    return new EngineState({
      step: this.step,
      pool: this.pool,
      blockTables: new Map(Array.from(this.blockTables, ([id, table]) => [id, table.slice()])),
      refCounts: this.refCounts.slice(),
      hashes: this.hashes.slice(),
      free: this.free.clone(),
      requests: new Map(Array.from(this.requests, ([id, r]) => [id, { ...r }])),
      waiting: this.waiting.slice(),
      running: this.running.slice(),
      numCachedFree: this.numCachedFree,
      contentOf: this.contentOf.slice(),
      contentIndex: this.contentIndex.slice(),
      lastEvent: this.lastEvent.slice(),
    });
  }

  /** Go from the state after step n - 1 to the state after step n. */
  apply(record: StepRecord): void {
    this.pool = record.pool;
    for (const a of record.arrivals) {
      this.requests.set(a.request_id, {
        id: a.request_id,
        numPrompt: a.prompt_token_ids.length,
        numOutput: 0,
        numComputed: 0,
        numPreemptions: 0,
        lastScheduled: -1,
      });
    }
    for (const event of record.block_events) this.blockEvent(event, record.step);

    const wasRunning = new Set(this.running);
    const gone = new Set(record.finished.map((f) => f.request_id));
    this.running = [];
    this.waiting = [];
    for (const d of record.decisions) {
      const request = this.requests.get(d.request_id);
      if (request !== undefined) {
        if (d.action === "preempt") {
          request.numComputed = 0;
          request.numPreemptions += 1;
        } else {
          request.numComputed = d.num_computed + d.num_tokens;
        }
        if (d.num_tokens > 0) request.lastScheduled = record.step;
      }
      if (gone.has(d.request_id)) continue;
      const joins = d.reason === "admitted" || d.reason === "resumed";
      const runs = d.action !== "preempt" && (joins || wasRunning.has(d.request_id));
      (runs ? this.running : this.waiting).push(d.request_id);
    }
    for (const s of record.sampled) {
      const request = this.requests.get(s.request_id);
      if (request !== undefined) request.numOutput += 1;
    }
    for (const id of gone) this.requests.delete(id);
    this.step = record.step;
  }

  private blockEvent(event: BlockEvent, step: number): void {
    const { block, request_id: id } = event;
    switch (event.kind) {
      case "allocate":
        this.take(block);
        this.append(id, block);
        this.contentOf[block] = id;
        this.contentIndex[block] = this.blockTables.get(id)!.length - 1;
        break;
      case "share":
        if (this.refCounts[block] === 0) this.take(block);
        else this.refCounts[block]! += 1;
        this.append(id, block);
        break;
      case "free": {
        const table = this.blockTables.get(id);
        const at = table?.lastIndexOf(block) ?? -1;
        if (table === undefined || at < 0)
          throw new Error(`step ${step}: ${id} frees block ${block}, not in its table`);
        table.splice(at, 1);
        if (table.length === 0) this.blockTables.delete(id);
        this.release(block, step);
        break;
      }
      case "cache":
        this.setHash(block, event.other);
        break;
      case "evict":
        this.setHash(block, "");
        // A free block that lost its content is reused first, like every other free block without content.
        if (this.free.has(block)) {
          this.free.remove(block);
          this.free.pushFront(block);
        }
        break;
      case "copy": {
        const old = Number(event.other);
        const table = this.blockTables.get(id);
        const at = table?.lastIndexOf(old) ?? -1;
        if (table === undefined || at < 0) throw new Error(`step ${step}: ${id} copies block ${old}, not in its table`);
        this.take(block);
        table[at] = block;
        this.contentOf[block] = id;
        this.contentIndex[block] = at;
        this.release(old, step);
        break;
      }
      case "move":
        this.move(Number(event.other), block);
        break;
      case "resize":
        this.resize(block);
        return;
    }
    this.lastEvent[block] = step;
  }

  /** An empty free block takes over everything that another one is. */
  private move(from: number, to: number): void {
    this.free.remove(to);
    if (this.free.has(from)) this.free.replace(from, to);
    this.free.pushFront(from);
    for (const values of [this.refCounts, this.contentIndex]) {
      values[to] = values[from]!;
      values[from] = 0;
    }
    for (const values of [this.hashes, this.contentOf]) {
      values[to] = values[from]!;
      values[from] = "";
    }
    for (const table of this.blockTables.values()) {
      const at = table.indexOf(from);
      if (at >= 0) table[at] = to;
    }
  }

  private resize(count: number): void {
    const before = this.numBlocks;
    const kept = [...this.free].filter((block) => block < count);
    const added = Array.from({ length: Math.max(0, count - before) }, (_, i) => before + i);
    this.free = FreeList.of(count, [...added, ...kept]);
    const numbers = (old: Int32Array, empty: number): Int32Array => {
      const resized = new Int32Array(count).fill(empty);
      resized.set(old.subarray(0, count));
      return resized;
    };
    this.refCounts = numbers(this.refCounts, 0);
    this.contentIndex = numbers(this.contentIndex, 0);
    this.lastEvent = numbers(this.lastEvent, -1);
    this.hashes = [...this.hashes.slice(0, count), ...added.map(() => "")];
    this.contentOf = [...this.contentOf.slice(0, count), ...added.map(() => "")];
  }

  private take(block: number): void {
    this.free.remove(block);
    this.refCounts[block] = 1;
    if (this.hashes[block] !== "") this.numCachedFree -= 1;
  }

  private append(id: string, block: number): void {
    const table = this.blockTables.get(id);
    if (table === undefined) this.blockTables.set(id, [block]);
    else table.push(block);
  }

  private release(block: number, step: number): void {
    this.refCounts[block]! -= 1;
    this.lastEvent[block] = step;
    if (this.refCounts[block] !== 0) return;
    if (this.hashes[block] === "") {
      this.free.pushFront(block);
    } else {
      this.free.pushBack(block);
      this.numCachedFree += 1;
    }
  }

  private setHash(block: number, hash: string): void {
    const free = this.refCounts[block] === 0;
    const before = this.hashes[block] !== "";
    this.hashes[block] = hash;
    if (free) this.numCachedFree += Number(hash !== "") - Number(before);
  }
}
