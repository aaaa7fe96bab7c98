// Memory: who holds the bytes?

import { compact, int, byteSize, percent } from "../format.ts";
import type { MemoryKind } from "../protocol.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import type { Theme } from "../ui/theme.ts";
import { deviceFacts } from "./device_facts.ts";
import { ledger } from "./memory_rows.ts";
import { wasteRows } from "./waste_rows.ts";

export function memoryView(element: HTMLElement, context: ViewContext): View {
  const bar = h("div", { class: "iw-bar", role: "img" });
  const list = h("table", { class: "iw-ledger" });
  const total = h("div", { class: "iw-total" });
  const facts = h("div", { class: "iw-facts" });
  const device = h("div", { class: "iw-facts", "data-testid": "memory-device" });
  const waste = h("table", { class: "iw-ledger iw-waste", "data-testid": "memory-waste" });
  const wasteHead = h("div", { class: "iw-waste-head" }, "KV memory held, and what of it stores a token");
  const empty = emptyState("Nothing measured yet", "The engine reports its memory with its first frame.");
  const absent = emptyState(
    "No memory in a trace",
    "A saved trace tells what blocks held, not what bytes a process had.",
  );
  element.append(
    h("div", { class: "iw-memory", "data-testid": "memory" }, total, bar, list, facts, wasteHead, waste, device),
    empty,
    absent,
  );

  function drawWaste(theme: Theme): void {
    const { session } = context;
    const { store } = session;
    const state = store.stateAt(session.cursor);
    const outputs = (id: string): number => store.requests.get(id)?.tokens.length ?? 0;
    const rows = state === null ? [] : wasteRows(state, outputs, store.info?.max_model_len ?? 0);
    const perSlot = (state?.pool.bytes_per_block ?? 0) / (state?.pool.block_size ?? 1);
    wasteHead.hidden = waste.hidden = rows.length === 0 || perSlot === 0;
    if (waste.hidden) return;
    while (waste.rows.length < rows.length) {
      const piece = h("div", { class: "iw-waste-bar" }, h("i"), h("i"));
      waste.append(
        h("tr", {}, h("td"), h("td", {}, piece), h("td", { class: "iw-num" }), h("td", { class: "iw-num iw-dim" })),
      );
    }
    const most = Math.max(...rows.map((row) => row.held));
    rows.forEach((row, i) => {
      const [label, bars, held, share] = waste.rows[i]!.cells;
      setText(label!, row.label);
      setAttribute(waste.rows[i]!, "title", row.title);
      const [used, rest] = bars!.firstElementChild!.children as unknown as [HTMLElement, HTMLElement];
      setProperty(used, "width", `${((100 * row.used) / most).toFixed(2)}%`);
      setProperty(used, "--piece", theme.used);
      setProperty(rest, "width", `${((100 * (row.held - row.used)) / most).toFixed(2)}%`);
      setProperty(rest, "--piece", theme.free);
      setText(held!, byteSize(row.held * perSlot));
      setText(share!, `${percent(1 - row.used / row.held)} for nothing`);
    });
  }

  return {
    draw() {
      const { session } = context;
      const theme = context.theme();
      const { rows, total: bytes } = ledger(session.store, session.cursor);
      empty.hidden = rows.length > 0 || !session.interactive;
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
        setAttribute(piece, "title", `${row.name}: ${byteSize(row.bytes)}`);
        const [name, size, share] = list.rows[i]!.cells;
        if (name!.firstElementChild === null) name!.append(h("span", { class: "iw-chip" }), h("span"));
        setProperty(name!.firstElementChild as HTMLElement, "--chip", colour);
        setText(name!.lastElementChild!, row.name);
        setText(size!, byteSize(row.bytes));
        setText(share!, percent(row.bytes / Math.max(1, bytes)));
      });
      setAttribute(bar, "aria-label", rows.map((row) => `${row.name} ${byteSize(row.bytes)}`).join(", "));
      setText(total, rows.length === 0 ? "" : `${byteSize(bytes)} in all`);
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
      drawWaste(theme);
      absent.hidden = rows.length > 0 || session.interactive || !waste.hidden;
      const said = deviceFacts(session.store.status?.device ?? null);
      device.hidden = said === "";
      setText(device, said);
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
    case "kv_scales":
      return theme.request(2);
    case "workspace":
      return theme.request(3);
    case "graphs":
      return theme.request(4);
    case "slack":
      return theme.request(5);
    case "other":
      return theme.fg3;
  }
}
