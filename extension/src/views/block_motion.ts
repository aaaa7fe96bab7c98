// Short rings over the blocks that a step changed. The state is drawn at once; these only point at what is new.

import type { BlockEvent, BlockEventKind } from "../generated.ts";

export const MOTION_MS = 420;

export interface BlockEffect {
  readonly block: number;
  readonly kind: Exclude<BlockEventKind, "cache" | "resize">;
  /** Of a copy on write or a move: the block that the content came from. */
  readonly from: number | null;
}

/** One effect a block: an eviction outlives the allocation that it made room for. */
export function effectsOf(events: readonly BlockEvent[]): BlockEffect[] {
  const effects = new Map<number, BlockEffect>();
  for (const { kind, block, other } of events) {
    if (kind === "cache" || kind === "resize") continue;
    if (effects.get(block)?.kind === "evict" && kind === "allocate") continue;
    effects.set(block, { block, kind, from: kind === "copy" || kind === "move" ? Number(other) : null });
  }
  return [...effects.values()];
}

export interface Ring {
  /** Side of the ring in sides of the block. */
  readonly size: number;
  readonly alpha: number;
}

/** The ring of an effect at a share (0 to 1) of its time: what arrives closes in, what leaves spreads out. */
export function ringAt(kind: BlockEffect["kind"], share: number): Ring {
  const eased = 1 - (1 - share) ** 3;
  const leaves = kind === "free" || kind === "evict";
  return { size: leaves ? 1 + 0.5 * eased : 1.7 - 0.7 * eased, alpha: (1 - share) * 0.9 };
}

/** Which effects are under way. */
export class BlockMotion {
  private effects: readonly BlockEffect[] = [];
  private began = 0;
  private step: number | null = null;

  /** A step is shown. Effects begin only where it follows the one shown before, and `wanted`. */
  shown(step: number, events: readonly BlockEvent[], wanted: boolean, now: number): void {
    if (step === this.step) return;
    const follows = this.step !== null && step === this.step + 1;
    this.step = step;
    this.effects = follows && wanted ? effectsOf(events) : [];
    this.began = now;
  }

  /** The effects and the share of their time that is over; null when there are none left. */
  at(now: number): { effects: readonly BlockEffect[]; share: number } | null {
    const share = (now - this.began) / MOTION_MS;
    return this.effects.length === 0 || share >= 1 ? null : { effects: this.effects, share: Math.max(0, share) };
  }
}
