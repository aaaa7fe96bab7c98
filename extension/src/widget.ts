// The module that a notebook widget loads, and what pages without a kernel use of it.

import { mount, mountComparison } from "./mount.ts";
import type { ComparisonData } from "./protocol.ts";
import { joinSession } from "./registry.ts";
import { ReplaySource, type SavedTrace } from "./replay_source.ts";
import { type WidgetModel, WidgetSource } from "./widget_source.ts";

interface RenderContext {
  model: WidgetModel;
  el: HTMLElement;
}

function render({ model, el }: RenderContext): () => void {
  const text = (name: string, fallback: string): string => {
    const value = model.get(name);
    return typeof value === "string" && value !== "" ? value : fallback;
  };
  const height = model.get("height");
  if (model.get("view") === "compare") {
    const data = model.get("comparison") as ComparisonData;
    return mountComparison(data, el, typeof height === "number" ? height : 0, text("engine_id", ""));
  }
  const { session, leave } = joinSession(text("engine_id", "engine"), new WidgetSource(model));
  const unmount = mount(session, text("view", "dashboard"), el, typeof height === "number" ? height : 0);
  return () => {
    unmount();
    leave();
  };
}

/** Show a saved trace in a page that has no kernel. Returns what takes it away again. */
export function renderTrace(el: HTMLElement, trace: SavedTrace, view = "dashboard", height = 0): () => void {
  const { session, leave } = joinSession(trace.engine.engine_id, new ReplaySource(trace));
  const unmount = mount(session, view, el, height);
  return () => {
    unmount();
    leave();
  };
}

export default { render };
