/** A picture of a sample; a quiet form where there is none. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { imageAddress } from "../api/http.ts";

interface ThumbProps {
  run: string;
  sampleId: number;
  size: number;
  label: string;
  hasImage?: boolean;
}

/** Sizes that are asked for: few, so that those on disk are found again. */
const SIZES = [64, 96, 128, 192, 256, 512];

export function Thumb({ run, sampleId, size, label, hasImage = true }: ThumbProps): JSX.Element {
  const [small, setSmall] = useState(false);
  const [failed, setFailed] = useState<number | null>(null);
  const box = { width: `${size}px`, height: `${size}px` };
  if (!hasImage || failed === sampleId) {
    if (label === "") return <span class="thumb thumb-none" style={box} />;
    return <span class="thumb thumb-none" style={box} role="img" aria-label={`${label}: no picture`} />;
  }
  const wanted = size * Math.min(2, Math.ceil(devicePixelRatio));
  return (
    <img
      class={small ? "thumb pixelated" : "thumb"}
      style={box}
      src={imageAddress(run, sampleId, SIZES.find((known) => known >= wanted) ?? 512)}
      alt={label}
      decoding="async"
      draggable={false}
      onLoad={(event) => setSmall(event.currentTarget.naturalWidth < 64)}
      onError={() => setFailed(sampleId)}
    />
  );
}
