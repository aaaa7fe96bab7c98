// The speed slider's scale: even steps of the slider are even factors of the speed, and its end is no limit.

export const SLIDER_MAX = 100;
const SLOWEST = 0.5;
const FASTEST = 500;

/** Steps per second at a slider position; null at the right end. */
export function speedAt(position: number): number | null {
  if (position >= SLIDER_MAX) return null;
  const value = SLOWEST * (FASTEST / SLOWEST) ** (position / (SLIDER_MAX - 1));
  return value < 10 ? Math.round(value * 10) / 10 : Math.round(value);
}

export function positionOf(speed: number | null): number {
  if (speed === null) return SLIDER_MAX;
  const share = Math.log(Math.max(SLOWEST, speed) / SLOWEST) / Math.log(FASTEST / SLOWEST);
  return Math.min(SLIDER_MAX - 1, Math.round(share * (SLIDER_MAX - 1)));
}
