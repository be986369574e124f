/** Frames of a camera as images. */
import { centre, pixelsOf } from "./squares.ts";

/** Between two frames, milliseconds. */
const EVERY = 250;

/**
 * Shows what a camera sees and hands over a frame's centre square every quarter of a second.
 *
 * @returns what stops it
 * @throws Error of one line, where there is no camera or it is refused
 */
export async function openCamera(
  video: HTMLVideoElement,
  side: number,
  take: (pixels: Uint8Array) => void,
): Promise<() => void> {
  const stream = await askForCamera();
  video.srcObject = stream;
  await video.play();
  const timer = setInterval(() => {
    take(pixelsOf(video, centre(video.videoWidth, video.videoHeight), side));
  }, EVERY);
  return () => {
    clearInterval(timer);
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
}

function askForCamera(): Promise<MediaStream> {
  // Undefined in a page that is not served over HTTPS or from this machine.
  const devices: MediaDevices | undefined = navigator.mediaDevices;
  if (!devices) throw new Error("no camera: the page has to be served over HTTPS, or from this machine");
  return devices.getUserMedia({ video: { width: { ideal: 640 } } }).catch((error: DOMException) => {
    const why = REASONS[error.name] ?? error.message;
    throw new Error(`no camera: ${why}`);
  });
}

const REASONS: Readonly<Record<string, string>> = {
  NotAllowedError: "it was refused; the browser’s settings of this page allow it",
  NotFoundError: "this device has none",
  NotReadableError: "another program uses it",
};
