// The colours that requests are told apart by. All can be told apart by readers with any kind of colour vision.

/** A request's colour is its index modulo this; every palette has so many. */
export const NUM_HUES = 10;

interface Palette {
  readonly light: readonly string[];
  readonly dark: readonly string[];
}

const PALETTES: Readonly<Record<string, Palette>> = {
  // In the spirit of Okabe and Ito: neighbours far apart in hue and in lightness.
  workbench: {
    dark: [
      "#56b4e9",
      "#e69f00",
      "#1fbf87",
      "#e38fc4",
      "#e3d04f",
      "#f2724a",
      "#6f8dff",
      "#a5dcd2",
      "#c79a68",
      "#b08cff",
    ],
    light: [
      "#2b93d1",
      "#d98a00",
      "#00936a",
      "#c2578f",
      "#ad9a00",
      "#d2501a",
      "#3a5bd9",
      "#3f9f93",
      "#8a6237",
      "#7b4fd6",
    ],
  },
  // From blue to yellow with growing lightness, dealt out so that neighbours differ: reads in greyscale, too.
  ramp: {
    dark: [
      "#3f7fd6",
      "#b8ad8c",
      "#ffe94a",
      "#7f9cc9",
      "#dcc45c",
      "#5a8fd8",
      "#cbbb72",
      "#f2d64a",
      "#9aa9bd",
      "#a9a9a0",
    ],
    light: [
      "#0b2f6b",
      "#8a8678",
      "#d9b400",
      "#5f7fb0",
      "#b09a4a",
      "#24509b",
      "#9c9268",
      "#c5a526",
      "#43689f",
      "#77828f",
    ],
  },
};

/** A palette by name; the workbench's own for one that is not known. */
export function paletteOf(name: string | undefined): Palette {
  return PALETTES[name ?? "workbench"] ?? PALETTES["workbench"]!;
}

export const PALETTE_NAMES: readonly string[] = Object.keys(PALETTES);
