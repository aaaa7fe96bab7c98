// Memory: who holds the bytes?

import { compact, int, mebibytes, percent } from "../format.ts";
import type { MemoryKind } from "../protocol.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import type { Theme } from "../ui/theme.ts";
import { ledger } from "./memory_rows.ts";

export function memoryView(element: HTMLElement, context: ViewContext): View {
  const bar = h("div", { class: "iw-bar", role: "img" });
  const list = h("table", { class: "iw-ledger" });
  const total = h("div", { class: "iw-total" });
  const facts = h("div", { class: "iw-facts" });
  const empty = emptyState("Nothing measured yet", "The engine reports its memory with its first frame.");
  element.append(h("div", { class: "iw-memory", "data-testid": "memory" }, total, bar, list, facts), empty);

  return {
    draw() {
      const { session } = context;
      const theme = context.theme();
      const { rows, total: bytes } = ledger(session.store, session.cursor);
      empty.hidden = rows.length > 0;
      while (bar.children.length < rows.length) {
        bar.append(h("i"));
        list.append(h("tr", {}, h("td"), h("td", { class: "iw-num" }), h("td", { class: "iw-num iw-dim" })));
      }
      while (bar.children.length > rows.length) {
        bar.lastElementChild!.remove();
        list.lastElementChild!.remove();
      }
      rows.forEach((row, i) => {
        const colour = memoryColour(theme, row.kind);
        const piece = bar.children[i] as HTMLElement;
        setProperty(piece, "flex-grow", (row.bytes / Math.max(1, bytes)).toFixed(4));
        setProperty(piece, "--piece", colour);
        setAttribute(piece, "title", `${row.name}: ${mebibytes(row.bytes)}`);
        const [name, size, share] = list.rows[i]!.cells;
        if (name!.firstElementChild === null) name!.append(h("span", { class: "iw-chip" }), h("span"));
        setProperty(name!.firstElementChild as HTMLElement, "--chip", colour);
        setText(name!.lastElementChild!, row.name);
        setText(size!, mebibytes(row.bytes));
        setText(share!, percent(row.bytes / Math.max(1, bytes)));
      });
      setAttribute(bar, "aria-label", rows.map((row) => `${row.name} ${mebibytes(row.bytes)}`).join(", "));
      setText(total, rows.length === 0 ? "" : `${mebibytes(bytes)} in all`);
      const { info } = session.store;
      const pool = session.store.stateAt(session.cursor)?.pool;
      if (info !== null && pool !== undefined) {
        setText(
          facts,
          `${int(pool.num_blocks)} blocks of ${int(pool.block_size)} tokens, ` +
            `${(pool.bytes_per_block / 1024).toFixed(1)} KiB each (${pool.kv_cache_dtype}) · ` +
            `${compact(info.num_parameters)} parameters, ${info.dtype}`,
        );
      }
    },
    destroy() {
      // Plain elements: they go with their parent.
    },
  };
}

function memoryColour(theme: Theme, kind: MemoryKind): string {
  switch (kind) {
    case "weights":
      return theme.request(1);
    case "kv_used":
      return theme.used;
    case "kv_cached":
      return theme.cached;
    case "kv_free":
      return theme.free;
    case "workspace":
      return theme.request(3);
    case "other":
      return theme.fg3;
  }
}
