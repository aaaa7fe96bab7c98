// The JupyterLab extension: a shell of panels, a sidebar and commands around the same views that a cell shows.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";

const plugin: JupyterFrontEndPlugin<void> = {
  id: "inference-workbench:plugin",
  description: "Live views of the inference engines of every kernel",
  autoStart: true,
  activate: (app: JupyterFrontEnd): void => {
    void app;
  },
};

export default plugin;
