// The arranged workbench: which views stand where beside the notebook, as a dock layout.

export type LayoutName = "beside" | "below" | "dashboard";

/** A place for the tabs of these views, or several places side by side or on top of each other. */
export type Area =
  | { readonly views: readonly string[] }
  | { readonly split: "horizontal" | "vertical"; readonly sizes: readonly number[]; readonly parts: readonly Area[] };

export interface Layout {
  readonly split: "horizontal" | "vertical";
  /** The notebook's share of the main area. */
  readonly notebook: number;
  readonly views: Area;
}

/** Below this height three rows of views would all be too small: the playground goes behind the blocks. */
const SHORT = 860;

const LOWER: Area = { views: ["timeline", "requests", "latency"] };

/** The controls' height with their tab, in pixels, for a panel of this width: they break into more rows in a narrow one. */
function controlsHeight(width: number): number {
  const rows = width >= 1180 ? 2 : width >= 900 ? 3 : 4;
  return 34 + 33 * rows;
}

/** How to lay out a main area of this size, in pixels. */
export function layoutOf(name: LayoutName, width: number, height: number): Layout {
  const notebook = 0.34;
  const controls = Math.min(0.3, controlsHeight(width * (1 - notebook)) / Math.max(height, 1));
  const upper = height < SHORT ? 0.3 : 0.47;
  switch (name) {
    case "dashboard":
      return { split: "horizontal", notebook: 0.36, views: { views: ["dashboard"] } };
    case "below":
      return {
        split: "vertical",
        notebook: 0.4,
        views: {
          split: "horizontal",
          sizes: [0.3, 0.36, 0.34],
          parts: [{ views: ["playground", "controls"] }, { views: ["blocks", "memory"] }, LOWER],
        },
      };
    case "beside":
      return {
        split: "horizontal",
        notebook,
        views: {
          split: "vertical",
          sizes: [controls, (1 - controls) * upper, (1 - controls) * (1 - upper)],
          parts: [
            { views: ["controls"] },
            height < SHORT
              ? { views: ["blocks", "playground", "memory"] }
              : {
                  split: "horizontal",
                  sizes: [0.45, 0.55],
                  parts: [{ views: ["playground"] }, { views: ["blocks", "memory"] }],
                },
            LOWER,
          ],
        },
      };
  }
}

/** Every view that a layout shows. */
export function viewsOf(area: Area): string[] {
  return "views" in area ? [...area.views] : area.parts.flatMap(viewsOf);
}
