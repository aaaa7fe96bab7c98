// Puts the views of an engine beside its notebook in one click.

import { DockPanel, type DockLayout, type Widget } from "@lumino/widgets";

import { type Area, type Layout, viewsOf } from "./layouts.ts";

/**
 * Lay out `panels` (by view) and the widgets that are open already: those keep their tabs, in one place, `front` in
 * front. All must be in one dock panel; says whether they are.
 */
export function arrange(layout: Layout, panels: ReadonlyMap<string, Widget>, front: Widget | null): boolean {
  const first = panels.get(viewsOf(layout.views)[0]!);
  const dock = first?.parent;
  if (!(dock instanceof DockPanel)) return false;
  const ours = new Set(panels.values());
  const others = [...dock.widgets()].filter((widget) => !ours.has(widget));
  const views = areaOf(layout.views, panels);
  if (others.length === 0) {
    dock.restoreLayout({ main: views });
    return true;
  }
  const rest: DockLayout.ITabAreaConfig = {
    type: "tab-area",
    widgets: others,
    currentIndex: Math.max(0, front === null ? 0 : others.indexOf(front)),
  };
  dock.restoreLayout({
    main: {
      type: "split-area",
      orientation: layout.split,
      sizes: [layout.notebook, 1 - layout.notebook],
      children: [rest, views],
    },
  });
  return true;
}

function areaOf(area: Area, panels: ReadonlyMap<string, Widget>): DockLayout.AreaConfig {
  if ("views" in area) {
    return { type: "tab-area", widgets: area.views.map((view) => panels.get(view)!), currentIndex: 0 };
  }
  return {
    type: "split-area",
    orientation: area.split,
    sizes: [...area.sizes],
    children: area.parts.map((part) => areaOf(part, panels)),
  };
}
