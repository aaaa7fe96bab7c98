// The settings, and what each of them changes on the page.

import type { ISettingRegistry } from "@jupyterlab/settingregistry";

import type { Hub } from "./hub.ts";
import type { LayoutName } from "./layouts.ts";
import type { StatusItem } from "./status_item.ts";

export interface Settings {
  readonly updatesPerSecond: number;
  readonly palette: string;
  readonly defaultLayout: LayoutName;
  readonly statusBar: boolean;
}

export const DEFAULTS: Settings = {
  updatesPerSecond: 20,
  palette: "workbench",
  defaultLayout: "beside",
  statusBar: true,
};

/** Take up the settings now and at each change; `current()` gives those in force. */
export function followSettings(
  registry: ISettingRegistry | null,
  pluginId: string,
  hub: Hub,
  status: StatusItem | null,
): { current: () => Settings } {
  let settings = DEFAULTS;
  const apply = (): void => {
    hub.setRate(settings.updatesPerSecond);
    document.body.dataset["iwPalette"] = settings.palette;
    status?.setEnabled(settings.statusBar);
  };
  registry?.load(pluginId).then(
    (loaded) => {
      const read = (): void => {
        settings = { ...DEFAULTS, ...(loaded.composite as Partial<Settings>) };
        apply();
      };
      loaded.changed.connect(read);
      read();
    },
    (error: unknown) =>
      console.warn("inference-workbench: the settings could not be read; the defaults are used.", error),
  );
  return { current: () => settings };
}
