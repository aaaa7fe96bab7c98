// All retained steps in one strip: KV usage as a skyline, preemptions as ticks, the time cursor as a handle.

import { int } from "../format.ts";
import type { TraceStore } from "../store.ts";
import { h, setAttribute } from "../ui/dom.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { css, rgb } from "../ui/theme.ts";

export function scrubberView(element: HTMLElement, context: ViewContext): View {
  const { session } = context;
  const track = h("div", {
    class: "iw-scrubber",
    role: "slider",
    tabindex: "0",
    "aria-label": "Time cursor",
    "data-testid": "scrubber",
  });
  element.append(track);
  const surface = new Surface(track, "", () => context.invalidate());
  surface.canvas.setAttribute("aria-hidden", "true");

  const seek = (event: PointerEvent): void => {
    const { firstStep, lastStep } = session.store;
    if (firstStep === null || lastStep === null) return;
    const share = (surface.locate(event).x - 4) / Math.max(1, surface.width - 8);
    session.setCursor(share >= 0.995 ? "live" : firstStep + share * (lastStep - firstStep));
  };
  track.addEventListener("pointerdown", (event) => {
    track.setPointerCapture(event.pointerId);
    seek(event);
  });
  track.addEventListener("pointermove", (event) => {
    if (track.hasPointerCapture(event.pointerId)) seek(event);
  });
  track.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageDown: -32, PageUp: 32 }[event.key];
    if (move !== undefined) session.moveCursor(move);
    else if (event.key === "Home") session.setCursor(0);
    else if (event.key === "End") session.setCursor("live");
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    draw() {
      const theme = context.theme();
      const pen = surface.begin();
      const { store, cursor } = session;
      const { width, height } = surface;
      const { firstStep, lastStep } = store;
      setAttribute(track, "aria-valuemin", String(firstStep ?? 0));
      setAttribute(track, "aria-valuemax", String(lastStep ?? 0));
      setAttribute(track, "aria-valuenow", String(cursor === "live" ? (lastStep ?? 0) : cursor));
      setAttribute(track, "aria-valuetext", cursor === "live" ? "live" : `step ${int(cursor)}`);
      if (firstStep === null || lastStep === null) return;
      const x = (step: number): number => 4 + ((step - firstStep) / Math.max(1, lastStep - firstStep)) * (width - 8);
      drawSkyline(pen, store, width, height, css(rgb(theme.used), theme.dark ? 0.4 : 0.35));
      pen.fillStyle = theme.danger;
      for (const event of store.events) if (event.kind === "preempted") pen.fillRect(x(event.step) - 0.5, 0, 1, 4);
      const at = Math.round(x(cursor === "live" ? lastStep : cursor));
      const colour = cursor === "live" ? theme.good : theme.accent;
      pen.fillStyle = colour;
      pen.fillRect(at - 1, 0, 2, height);
      pen.beginPath();
      pen.roundRect(at - 4, height / 2 - 7, 8, 14, 3);
      pen.fill();
    },
    destroy() {
      surface.destroy();
    },
  };
}

function drawSkyline(
  pen: CanvasRenderingContext2D,
  store: TraceStore,
  width: number,
  height: number,
  fill: string,
): void {
  const { steps } = store;
  const columns = Math.min(steps.length, Math.max(1, Math.floor((width - 8) / 2)));
  pen.fillStyle = fill;
  pen.beginPath();
  pen.moveTo(4, height);
  for (let c = 0; c < columns; c++) {
    const step = steps[Math.floor((c * (steps.length - 1)) / Math.max(1, columns - 1))]!;
    const x = 4 + (c / Math.max(1, columns - 1)) * (width - 8);
    pen.lineTo(x, height - (height - 4) * (step.numUsed / step.record.pool.num_blocks));
  }
  pen.lineTo(width - 4, height);
  pen.fill();
}
