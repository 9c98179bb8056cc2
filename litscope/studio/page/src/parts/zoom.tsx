/** The picture of a sample, as large as there is room: wheel or keys zoom, dragging moves; small ones stay in squares. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { imageAddress } from "../api/http.ts";
import { Icon } from "./icons.tsx";

interface ZoomProps {
  run: string;
  sampleId: number;
  label: string;
  width: number;
  height: number;
}

const MOST = 16;

export function Zoom({ run, sampleId, label, width, height }: ZoomProps): JSX.Element {
  const [view, setView] = useState({ scale: 1, x: 0, y: 0 });
  const [failed, setFailed] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    setView({ scale: 1, x: 0, y: 0 });
    setFailed(false);
  }, [run, sampleId]);
  const zoom = (factor: number) =>
    setView((old) => {
      const scale = Math.max(1, Math.min(MOST, old.scale * factor));
      const share = scale / old.scale;
      return scale === 1 ? { scale: 1, x: 0, y: 0 } : { scale, x: old.x * share, y: old.y * share };
    });
  useEffect(() => {
    const element = box.current;
    const wheeled = (event: WheelEvent) => {
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2);
    };
    element?.addEventListener("wheel", wheeled, { passive: false });
    return () => element?.removeEventListener("wheel", wheeled);
  }, []);
  const isSmall = Math.max(width, height) < 128;
  return (
    <figure class="zoom">
      <div
        ref={box}
        class="zoom-box"
        onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
        onPointerMove={(event) => {
          if (event.buttons !== 1 || view.scale === 1) return;
          setView((old) => ({ ...old, x: old.x + event.movementX, y: old.y + event.movementY }));
        }}
        onDblClick={() => setView({ scale: 1, x: 0, y: 0 })}
      >
        {failed ? (
          <p class="quiet">The picture cannot be read: moved, damaged, or not on this machine.</p>
        ) : (
          <img
            src={imageAddress(run, sampleId)}
            alt={label}
            class={isSmall ? "pixelated" : ""}
            draggable={false}
            style={{ transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})` }}
            onError={() => setFailed(true)}
          />
        )}
      </div>
      <figcaption>
        <span class="quiet">
          {width} × {height} pixels
        </span>
        <span class="zoom-buttons">
          <button type="button" class="bare" aria-label="Smaller" onClick={() => zoom(1 / 1.5)}>
            −
          </button>
          <output>{Math.round(100 * view.scale)} %</output>
          <button type="button" class="bare" aria-label="Larger" onClick={() => zoom(1.5)}>
            +
          </button>
          <button type="button" class="bare" aria-label="Fit" onClick={() => setView({ scale: 1, x: 0, y: 0 })}>
            <Icon name="reload" />
          </button>
        </span>
      </figcaption>
    </figure>
  );
}
