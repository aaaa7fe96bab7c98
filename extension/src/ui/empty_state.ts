import { h } from "./dom.ts";

/** What a view shows before it has anything to show: what will be here, and what to do for it. */
export function emptyState(title: string, hint: string, code = ""): HTMLElement {
  return h(
    "div",
    { class: "iw-empty", role: "note" },
    h("div", {}, h("strong", {}, title), h("p", {}, hint, ...(code === "" ? [] : [" ", h("code", {}, code)]))),
  );
}
