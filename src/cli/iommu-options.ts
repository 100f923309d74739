// The options that choose a host IOMMU, for every command that makes one. Imports commander, the model's types.
import { type Command, InvalidArgumentError, Option } from "commander";
import type { IommuOptions, PresetName } from "../iommu/model.js";

const PRESETS: readonly PresetName[] = ["vtd", "vtd-scalable", "smmuv3", "amd"];
const GRANULES = { "4k": 4096, "16k": 16384, "64k": 65536 } as const;

export interface IommuChoice {
  iommu?: PresetName;
  granule?: keyof typeof GRANULES;
  stage?: "1" | "2";
  addressWidth?: number;
}

function width(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError("It must be a number of bits.");
  return Number(text);
}

/** Adds --iommu, --granule, --stage and --address-width; without them `chosen` leaves what the file says. */
export function addIommuOptions(command: Command): Command {
  return command
    .addOption(new Option("--iommu <preset>", "host IOMMU; default: what the file was recorded on, else vtd").choices(PRESETS))
    .addOption(new Option("--granule <size>", "smallest page of smmuv3").choices(Object.keys(GRANULES)))
    .addOption(new Option("--stage <n>", "which stage the tables of vtd-scalable or smmuv3 are").choices(["1", "2"]))
    .option("--address-width <bits>", "bits that the tables decode", width);
}

/** The options of the host's IOMMU: what the file was recorded on, unless another preset is chosen; then what was given. */
export function chosenIommu(choice: IommuChoice, recorded: IommuOptions): IommuOptions {
  const base: IommuOptions = choice.iommu === undefined || choice.iommu === recorded.preset ? recorded : { preset: choice.iommu };
  return {
    ...base,
    ...(choice.granule === undefined ? {} : { granule: GRANULES[choice.granule] }),
    ...(choice.stage === undefined ? {} : { stage: Number(choice.stage) as 1 | 2 }),
    ...(choice.addressWidth === undefined ? {} : { addressWidth: choice.addressWidth }),
  };
}
