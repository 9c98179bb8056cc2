/** The reliability diagram: whether probabilities mean what they say. */
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { Calibration } from "../api/types.ts";
import { count, counted, number, tick } from "../logic/format.ts";
import { SplitTools, splitOf, type ViewProps, Waiting } from "../parts/splits.tsx";
import { Empty } from "../parts/states.tsx";
import { useAsked } from "../state/asking.ts";
import { openSamples } from "../state/navigation.ts";
import { samplesNews } from "../state/store.ts";

export function CalibrationView({ run, known }: ViewProps): JSX.Element {
  const split = splitOf(known);
  const asked = useAsked(
    `${run} ${split}`,
    (signal) => ask<Calibration>(runPath(run, "/calibration"), { split }, signal),
    samplesNews.value,
  );
  const { value } = asked;
  return (
    <div class="view">
      <SplitTools known={known}>
        {value !== null && (
          <span class="quiet">
            calibration error {number(value.error)}, corrected for chance {number(value.corrected_error)}
          </span>
        )}
      </SplitTools>
      {value === null ? (
        <Waiting asked={asked} />
      ) : value.num_samples === 0 ? (
        <Empty title={`No predictions of ${split} yet`}>{""}</Empty>
      ) : (
        <Reliability calibration={value} />
      )}
    </div>
  );
}

const SIDE = 360;
const EDGE = 34;

/** The service puts equally many samples into every bin, so a bin is a point, not a bar. */
function Reliability({ calibration }: { calibration: Calibration }): JSX.Element {
  const bins = calibration.bins.filter((bin) => bin.confidence !== null && bin.accuracy !== null && bin.count > 0);
  const points = bins.map((bin): [number, number] => [bin.confidence ?? 0, bin.accuracy ?? 0]);
  const low = Math.max(0, Math.floor(10 * Math.min(...points.flat(), 0.9)) / 10);
  const share = (value: number) => (value - low) / (1 - low);
  const across = (value: number) => EDGE + (SIDE - EDGE) * share(value);
  const up = (value: number) => 14 + (SIDE - EDGE) * (1 - share(value));
  return (
    <div class="calibration">
      <figure>
        <svg
          viewBox={`0 0 ${SIDE + 14} ${SIDE + 20}`}
          role="img"
          aria-label={`Reliability diagram. ${calibration.sentence}`}
        >
          {[0, 0.25, 0.5, 0.75, 1].map((part) => {
            const value = low + part * (1 - low);
            return (
              <g key={part} class="axis">
                <path d={`M${EDGE} ${up(value)}H${SIDE}M${across(value)} ${up(low)}V${up(1)}`} />
                <text x={EDGE - 5} y={up(value) + 4} text-anchor="end">
                  {tick(value)}
                </text>
                <text x={across(value)} y={up(low) + 15} text-anchor="middle">
                  {tick(value)}
                </text>
              </g>
            );
          })}
          <path class="ideal" d={`M${across(low)} ${up(low)}L${across(1)} ${up(1)}`} />
          <path class="bin-line" d={`M${points.map(([x, y]) => `${across(x)} ${up(y)}`).join("L")}`} />
          {bins.map((bin, index) => (
            <circle key={index} class="bin" cx={across(bin.confidence ?? 0)} cy={up(bin.accuracy ?? 0)} r="4">
              <title>
                {`confidence ${number(bin.confidence)}, right ${number(bin.accuracy)}, ${counted(bin.count, "sample")}`}
              </title>
            </circle>
          ))}
          <text x={SIDE} y={up(low) + 32} text-anchor="end">
            confidence
          </text>
          <text x={EDGE} y={9}>
            share that is right
          </text>
        </svg>
      </figure>
      <section>
        <h2>What it says</h2>
        <p>{calibration.sentence}</p>
        <p class="quiet">
          On the dashed line, of samples with a confidence just as many are right. Each point stands for equally many
          samples.
        </p>
        <table>
          <thead>
            <tr>
              <th class="num">confidence</th>
              <th class="num">right</th>
              <th class="num">samples</th>
            </tr>
          </thead>
          <tbody>
            {bins.map((bin, index) => (
              <tr key={index}>
                <td class="num">{number(bin.confidence)}</td>
                <td class="num">{number(bin.accuracy)}</td>
                <td class="num">{count(bin.count)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <p>
          <button
            type="button"
            class="link"
            onClick={() => openSamples(`split = ${calibration.split} and not is_right`, "-p_max")}
          >
            Wrong, and surest of it
          </button>
        </p>
      </section>
    </div>
  );
}
