/** The webcam, in a dialog of its own: one picture, and the camera is switched off again. */

import type { RgbImage } from "../vision/image";
import { byId, messageOf } from "./dom";
import { pixelsOf } from "./pictures";

/** The picture that the user takes; null when the dialog is closed without one. */
export async function takePicture(): Promise<RgbImage | null> {
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
  const closed = new Promise<void>((resolve) => {
    dialog.addEventListener("close", () => resolve(), { signal });
  });
  try {
    stream = await openCamera();
    if (dialog.open) {
      video.srcObject = stream;
      await video.play();
      note.textContent = "Pictures stay in this tab.";
      take.disabled = false;
      take.focus();
    }
  } catch (error) {
    note.textContent = messageOf(error);
  }
  await closed;
  over.abort();
  video.srcObject = null;
  stream?.getTracks().forEach((track) => track.stop());
  return taken;
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
