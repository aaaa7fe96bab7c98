// What the sidebar lists: kernels that have engines, each once, with the notebooks that run on it.

import type { EngineSummary } from "./lab_protocol.ts";

export interface SidebarPlace {
  readonly path: string;
  readonly name: string;
  readonly kernelName: string;
  readonly busy: boolean;
  readonly link: {
    readonly kernelId: string;
    readonly engines: readonly EngineSummary[];
    readonly hearsBetweenCells: boolean;
  };
}

export interface SidebarGroup {
  readonly kernelId: string;
  readonly title: string;
  readonly path: string;
  readonly detail: string;
  readonly note: string;
  readonly engines: readonly EngineSummary[];
}

const HEARS_BETWEEN_CELLS =
  "No subshells here: what you press while a cell is running acts when it ends; views are updated all the while. " +
  "ipykernel 7.2 in JupyterLab 4.4 acts at once.";

/** Groups in the order in which their notebooks were opened. */
export function sidebarGroups(places: readonly SidebarPlace[]): SidebarGroup[] {
  const groups = new Map<string, SidebarGroup>();
  for (const place of places) {
    const { kernelId, engines } = place.link;
    if (engines.length === 0) continue;
    const known = groups.get(kernelId);
    groups.set(kernelId, {
      kernelId,
      title: known === undefined ? place.name : `${known.title}, ${place.name}`,
      path: known?.path ?? place.path,
      note: place.link.hearsBetweenCells ? HEARS_BETWEEN_CELLS : "",
      detail: `${place.kernelName} · ${place.busy ? "busy" : "idle"}`,
      engines,
    });
  }
  return [...groups.values()];
}
