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

/** Of the height; the panel of the controls asks for more if they break into more rows than fit. */
const CONTROLS = 0.1;

/** How to lay out a main area of this height, in pixels. */
export function layoutOf(name: LayoutName, height: number): Layout {
  const notebook = 0.34;
  const upper = height < SHORT ? 0.36 : 0.47;
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
          sizes: [CONTROLS, (1 - CONTROLS) * upper, (1 - CONTROLS) * (1 - upper)],
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
