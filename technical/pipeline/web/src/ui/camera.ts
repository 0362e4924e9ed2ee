/** The webcam, in a dialog of its own, its faces boxed: one picture, and the camera is switched off again. */

import type { EngineClient } from "../engine/client";
import type { RgbImage } from "../vision/image";
import { counted, drawFaces } from "./boxes";
import { byId, messageOf } from "./dom";
import { pixelsOf } from "./pictures";

/** The picture that the user takes; null when the dialog is closed without one. */
export async function takePicture(engine: EngineClient): Promise<RgbImage | null> {
  const dialog = byId("camera", HTMLDialogElement);
  const video = byId("camera-picture", HTMLVideoElement);
  const note = byId("camera-note", HTMLElement);
  const take = byId("camera-take", HTMLButtonElement);
  const over = new AbortController();
  const { signal } = over;
  let stream: MediaStream | null = null;
  let taken: RgbImage | null = null;

  note.textContent = "Waiting for the webcam…";
  take.disabled = true;
  dialog.showModal();
  byId("camera-close", HTMLButtonElement).addEventListener("click", () => dialog.close(), { signal });
  take.addEventListener("click", () => {
    taken = pixelsOf(video, video.videoWidth, video.videoHeight, "The webcam's picture");
    dialog.close();
  }, { signal });
  let gone = false; // this call's dialog was closed, perhaps to be opened by another call
  const closed = new Promise<void>((resolve) => {
    dialog.addEventListener("close", () => {
      gone = true;
      over.abort();
      resolve();
    }, { signal });
  });
  const isGone = (): boolean => gone;
  try {
    stream = await openCamera();
    if (!isGone()) {
      video.srcObject = stream;
      await Promise.race([video.play(), closed]);
    }
    if (!isGone()) {
      take.disabled = false;
      take.focus();
      boxFaces(engine, video, note, () => !isGone()).catch((error: unknown) => {
        note.textContent = messageOf(error);
      });
    }
  } catch (error) {
    if (!isGone()) note.textContent = messageOf(error);
  }
  await closed;
  if (video.srcObject === stream) video.srcObject = null;
  stream?.getTracks().forEach((track) => track.stop());
  return taken;
}

const LIVE_WIDTH = 480; // pixels in which faces are looked for while the picture moves

/** Look for faces again and again, one picture at a time, as long as `open`. */
async function boxFaces(
  engine: EngineClient,
  video: HTMLVideoElement,
  note: HTMLElement,
  open: () => boolean,
): Promise<void> {
  const canvas = byId("camera-boxes", HTMLCanvasElement);
  const context = canvas.getContext("2d");
  if (context === null) return;
  while (open()) {
    const { videoWidth: width, videoHeight: height } = video; // others once the device is turned
    const scale = Math.min(1, LIVE_WIDTH / width);
    const seen = pixelsOf(video, Math.round(width * scale), Math.round(height * scale), "The webcam's picture");
    const faces = await engine.find(seen);
    if (!open()) break;
    Object.assign(canvas, { width, height }); // which clears it, too
    drawFaces(context, faces, 1 / scale, () => true);
    const words = `In view: ${counted(faces.length)}. Pictures stay in this tab.`;
    if (note.textContent !== words) note.textContent = words; // a screen reader says it once
    await new Promise((next) => requestAnimationFrame(next));
  }
  context.clearRect(0, 0, canvas.width, canvas.height);
}

async function openCamera(): Promise<MediaStream> {
  const devices = navigator.mediaDevices as MediaDevices | undefined; // absent on plain http
  if (devices === undefined) {
    throw new Error("A browser gives the webcam only to pages on https or on this machine (localhost).");
  }
  try {
    return await devices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    throw new Error(`The webcam cannot be used (${messageOf(error)}). Is it connected, and may this page use it?`);
  }
}
