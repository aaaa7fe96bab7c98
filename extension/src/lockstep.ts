// Two engines on the same prompts: the rows as they come, and where the answers part. No DOM here.

import { count, int, probability, visible } from "./format.ts";
import type { LockstepSide, LockstepWire, SideWire } from "./protocol.ts";

export interface SideToken {
  readonly id: number;
  readonly logprob: number | null;
  readonly alternatives: readonly (readonly [id: number, logprob: number])[];
}

/** A place of an answer on both sides; null past a side's end. */
export type Place = readonly [SideToken | null, SideToken | null];

/** One prompt answered twice. */
export interface Duel {
  readonly prompt: string;
  /** This engine's request. */
  readonly request: string;
  readonly places: Place[];
  /** Index of the first place where the two differ; null while none does. */
  partsAt: number | null;
  /** How either side ended; null while it goes on. */
  readonly endings: [string | null, string | null];
}

export class Lockstep {
  /** True where the playground answers with two engines; null until the reader has said. */
  wanted: boolean | null = null;
  run = "";
  sides: readonly [LockstepSide, LockstepSide] | null = null;
  duels: Duel[] = [];
  /** Grows with every row, so that a view can tell whether it has to draw again. */
  revision = 0;

  apply(wire: LockstepWire): void {
    if (wire.head !== undefined) {
      this.run = wire.run;
      this.sides = wire.head.sides;
      this.duels = wire.head.prompts.map(([prompt, request]) => ({
        prompt,
        request,
        places: [],
        partsAt: null,
        endings: [null, null],
      }));
    }
    if (wire.run !== this.run) return;
    this.revision += 1;
    for (const [prompt, first, second] of wire.rows) {
      const duel = this.duels[prompt];
      if (duel === undefined) continue;
      if (typeof first === "string") duel.endings[0] = first;
      if (typeof second === "string") duel.endings[1] = second;
      const place: Place = [decodeSide(first), decodeSide(second)];
      if (place[0] === null && place[1] === null) continue;
      if (duel.partsAt === null && place[0]?.id !== place[1]?.id) duel.partsAt = duel.places.length;
      duel.places.push(place);
    }
  }
}

function decodeSide(side: SideWire): SideToken | null {
  return typeof side === "string" ? null : { id: side[0], logprob: side[1], alternatives: side[2] };
}

export function ended(duel: Duel): boolean {
  return duel.endings[0] !== null && duel.endings[1] !== null;
}

/** The probability that a side gave to a token at a place; null where it is not known. */
export function probabilityOf(token: SideToken | null, id: number): number | null {
  if (token === null) return null;
  if (token.id === id && token.logprob !== null) return Math.exp(token.logprob);
  const found = token.alternatives.find(([other]) => other === id);
  return found === undefined ? null : Math.exp(found[1]);
}

/** One line of the comparison at a place: a token, what either side gave to it, and which side took it. */
export interface Candidate {
  readonly id: number;
  readonly shares: readonly [number | null, number | null];
  readonly taken: readonly [boolean, boolean];
}

/** The tokens that either side thought likely at a place: those that were taken first, then the likeliest. */
export function candidates(place: Place, most: number): Candidate[] {
  const ids = new Set<number>();
  for (const side of place) if (side !== null) ids.add(side.id);
  for (const side of place) for (const [id] of side?.alternatives ?? []) ids.add(id);
  const rows = Array.from(ids, (id): Candidate => ({
    id,
    shares: [probabilityOf(place[0], id), probabilityOf(place[1], id)],
    taken: [place[0]?.id === id, place[1]?.id === id],
  }));
  const weight = ({ shares }: Candidate): number => Math.max(shares[0] ?? 0, shares[1] ?? 0);
  const rank = ({ taken }: Candidate): number => (taken[0] ? 2 : taken[1] ? 1 : 0);
  return rows.toSorted((a, b) => rank(b) - rank(a) || weight(b) - weight(a)).slice(0, most);
}

/** Less than this is what a side gave to a token that is not among its likeliest; null if it tells of none. */
export function leastKnown(side: SideToken | null): number | null {
  const last = side?.alternatives.at(-1);
  return last === undefined ? null : Math.exp(last[1]);
}

/** How far the two are equal, and what either chose where they part; as Pair.summary says it in Python. */
export function summary(duel: Duel, text: (id: number) => string): string {
  const longest = duel.places.length;
  const at = duel.partsAt;
  if (at === null) {
    if (!ended(duel)) return `equal so far, ${count(longest, "token")}`;
    return longest === 1 ? "equal in its 1 token" : `equal in all ${int(longest)} tokens`;
  }
  const chosen = duel.places[at]!.map((side) => {
    if (side === null) return "the end";
    const share = side.logprob === null ? "" : ` ${probability(Math.exp(side.logprob))}`;
    return `'${visible(text(side.id))}'${share}`;
  });
  const place = int(at + 1);
  return `equal for ${int(at)} of ${int(longest)} tokens; first differs at token ${place}: ${chosen.join(" against ")}`;
}
